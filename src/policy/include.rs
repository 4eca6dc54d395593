//! `include`: files outside the policy folder that its files name, so that policies can share contracts or rules.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::config::ConfigError;
use crate::policy::load::{MAX_FILE, MAX_FILES, Source, read_bounded};
use crate::policy::written::Text;

/// The one key that is looked at before the files are read.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    include: Vec<Text>,
}

/// Follows the includes of files, each of which is read once.
#[derive(Default)]
pub(super) struct Files {
    pub sources: Vec<Source>,
    pub mistakes: Vec<ConfigError>,
    seen: BTreeSet<PathBuf>,
}

impl Files {
    /// Reads a file, and what it includes. `name` is its path from the policy folder.
    pub fn read(&mut self, directory: &Path, name: &Path) {
        self.follow(directory, name, &mut Vec::new());
    }

    /// `open` are the files that include this one, from the folder's own on.
    fn follow(&mut self, directory: &Path, name: &Path, open: &mut Vec<PathBuf>) {
        let name = plain(name);
        if !self.seen.insert(name.clone()) {
            return;
        }
        let path = plain(&directory.join(&name));
        if self.sources.len() >= MAX_FILES {
            return self
                .mistakes
                .push(ConfigError::new(&path, format_args!("more than {MAX_FILES} policy files")));
        }
        let instead = "write it as several files, and addresses by the hundred as a list ([lists])";
        let text = match read_bounded((&path, MAX_FILE), instead) {
            Ok(text) => text,
            Err(why) => return self.mistakes.push(ConfigError::new(&path, why)),
        };
        // What is no TOML is named when it is read as a policy.
        let include = toml::from_str::<Head>(&text).map(|head| head.include).unwrap_or_default();
        let shown = name.to_string_lossy().into_owned();
        self.sources.push(Source { name: shown, path: path.clone(), text: text.clone() });
        open.push(name.clone());
        for written in include {
            let wrong = |what: String| ConfigError::at(&path, &text, &written.span(), what);
            let included = name.parent().unwrap_or(Path::new("")).join(written.get_ref());
            let included = plain(&included);
            if Path::new(written.get_ref()).is_absolute()
                || included.extension().is_none_or(|is| is != "toml")
            {
                self.mistakes.push(wrong(format!(
                    "`{}`: write the path of a .toml file, from the folder of this one",
                    written.get_ref()
                )));
            } else if let Some(at) = open.iter().position(|open| *open == included) {
                let cycle = open.get(at..).unwrap_or_default().iter().chain([&included]);
                let cycle: Vec<_> = cycle.map(|file| format!("`{}`", file.display())).collect();
                self.mistakes.push(wrong(format!("a cycle of includes: {}", cycle.join(" includes "))));
            } else if !directory.join(&included).is_file() {
                self.mistakes
                    .push(wrong(format!("there is no file `{}`", directory.join(&included).display())));
            } else {
                self.follow(directory, &included, open);
            }
        }
        open.pop();
    }
}

/// Without `.`, and without `..` where that can be told: one file, one name.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(plain.components().next_back(), Some(Component::Normal(_))) => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use crate::policy::Policy;
    use crate::policy::tests::{CONTRACTS, PAY, world};

    fn load(files: &[(&str, &str)]) -> Result<Policy, String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Policy::load(&folder.path().join("desk"), &world()).map_err(|e| e.to_string())
    }

    #[test]
    fn what_a_file_includes_is_part_of_the_policy_once() {
        let shared = |more: &str| format!("include = [{more}]\n{CONTRACTS}");
        let policy = load(&[
            ("desk/a.toml", "include = [\"../shared/contracts.toml\", \"b.toml\"]\n"),
            ("desk/b.toml", &format!("include = [\"./../shared/./contracts.toml\"]\n{PAY}")),
            ("shared/contracts.toml", &shared("\"more/caps.toml\"")),
            ("shared/more/caps.toml", "[caps]\nmax_gas = 7\n"),
        ])
        .unwrap();
        assert_eq!(policy.size(), (1, 0, 0));
        let files: Vec<_> = policy.text().lines().filter(|line| line.starts_with("file ")).collect();
        assert_eq!(files.len(), 4, "{files:?}");
        assert!(files.iter().any(|line| line.ends_with(" ../shared/more/caps.toml")), "{files:?}");
    }

    #[test]
    fn a_cycle_and_what_is_no_file_are_named_with_their_line() {
        for (files, line, why) in [
            (
                vec![("desk/a.toml", "include = [\n  \"a.toml\",\n]\n")],
                "desk/a.toml:2: ",
                "`a.toml` includes `a.toml`",
            ),
            (
                vec![
                    ("desk/a.toml", "include = [\"../x/b.toml\"]\n"),
                    ("x/b.toml", "\ninclude = [\"../x/c.toml\"]\n"),
                    ("x/c.toml", "\n\ninclude = [\"b.toml\"]\n"),
                ],
                "x/c.toml:3: ",
                "a cycle of includes: `../x/b.toml` includes `../x/c.toml` includes `../x/b.toml`",
            ),
            (vec![("desk/a.toml", "include = [\"b.toml\"]\n")], "desk/a.toml:1: ", "there is no file"),
            (
                vec![("desk/a.toml", "include = [\"/etc/passwd\"]\n")],
                "desk/a.toml:1: ",
                "write the path of a .toml",
            ),
            (
                vec![("desk/a.toml", "include = [\"b.txt\"]\n")],
                "desk/a.toml:1: ",
                "write the path of a .toml",
            ),
            (vec![("desk/a.toml", "include = \"b.toml\"\n")], "desk/a.toml:1: ", "expected a sequence"),
        ] {
            let error = load(&files).unwrap_err();
            assert!(error.contains(line) && error.contains(why), "{files:?}: {error}");
        }
    }
}
