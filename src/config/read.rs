//! From the file to the configuration: every mistake is named with its line before anything starts.

mod account;
mod audit;
mod chain;
mod gateway;
mod ledger;
mod people;
mod token;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use toml::Spanned;

use crate::config::shown::shown;
use crate::config::written::{self, Text};
use crate::config::{
    Account, AutoBump, Client, Config, ConfigError, KeySource, Officers, Operator, Signer, Token, units,
};
use crate::transaction::address;

impl Config {
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file).map_err(|e| {
            ConfigError::new(file, format_args!("{e}; `chancery init` writes a first configuration"))
        })?;
        Self::parse(file, &text)
    }

    /// Reads `text` as the contents of `file`, whose folder relative paths start from.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let written: written::File =
            toml::from_str(text).map_err(|e| ConfigError::of_toml(file, text, &e))?;
        Reader { file, text, folder: file.parent().unwrap_or(Path::new(".")) }.config(written)
    }
}

/// What `[signer] deadline` may be: below, no token is in time; above, who stops a gateway in a login waits for minutes.
const DEADLINES: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);

struct Reader<'a> {
    file: &'a Path,
    text: &'a str,
    folder: &'a Path,
}

type Read<T> = Result<T, ConfigError>;

const DAY: Duration = Duration::from_secs(86_400);

impl Reader<'_> {
    fn config(&self, written: written::File) -> Read<Config> {
        let signer = self.signer(&written.signer)?;
        let tokens = written
            .token
            .into_iter()
            .map(|t| self.token(t, signer.user.as_ref()))
            .collect::<Read<Vec<_>>>()?;
        let accounts =
            written.account.into_iter().map(|a| self.account(a, &tokens)).collect::<Read<Vec<Account>>>()?;
        let keys_kept = self.duration(written.ledger.keys_kept.as_ref(), DAY)?;
        let issuers = self.issuers(&written.gateway, &written.issuer)?;
        let clients = written
            .client
            .iter()
            .map(|c| self.client(c, &accounts, &issuers, keys_kept))
            .collect::<Read<Vec<_>>>()?;
        let operators =
            written.operator.iter().map(|o| self.operator(o, &issuers)).collect::<Read<Vec<_>>>()?;
        self.unique("[[token]] name", tokens.iter().map(|t| &t.name))?;
        // Each has a latch of its own: a wrong PIN would be tried twice.
        let same = |t: &Token| {
            let environment: Vec<_> = t.environment.iter().map(|(name, value)| (name, real(value))).collect();
            format!("{} {:?} {:?}", t.label, t.serial, (real(&t.module), environment))
        };
        self.unique("the token behind a [[token]]", tokens.iter().map(same))?;
        self.unique("[[account]] name", accounts.iter().map(|a| &a.name))?;
        self.unique("[[account]] address", accounts.iter().map(|a| &a.address))?;
        self.unique("name of [[client]] or [[operator]]", names(&clients, &operators))?;
        self.unique("[[issuer]] name", issuers.iter().map(|issuer| &issuer.name))?;
        self.unique("identity of [[client]] or [[operator]]", identities(&clients, &operators))?;
        let other = |role: &str, of: &Client| clients.iter().any(|c| c.name == role && c.name != of.name);
        if let Some(client) = clients.iter().find(|c| c.role.as_ref().is_some_and(|role| other(role, c))) {
            return Err(self.wrong(format_args!(
                "the role of client `{}` is the name of another client: a rule that names it would mean both",
                client.name
            )));
        }
        if !signer.allow_software_keys
            && let Some(account) = accounts.iter().find(|a| matches!(a.key, KeySource::Keystore { .. }))
        {
            return Err(self.wrong(format_args!(
                "account `{}` has a keystore file, not a token; software keys are for laptops only: to accept that, \
                 set `allow_software_keys = true` in [signer]",
                account.name
            )));
        }
        let audit = written.audit.map(|a| self.audit(&a, &accounts, &clients)).transpose()?;
        Ok(Config {
            file: self.file.to_owned(),
            shown: shown(self.text),
            gateway: self.gateway(&written.gateway, issuers)?,
            admin: written.admin.map(|a| self.admin(&a)).transpose()?,
            chains: self.chains(&written.chain.0)?,
            policies: self.path(&written.policy.directory),
            officers: self.officers(&written.policy)?,
            shadow: written.policy.shadow.as_ref().map(|shadow| self.path(shadow)),
            ledger: self.ledger(&written.ledger, keys_kept)?,
            audit,
            signer,
            limits: self.limits(&written.limits)?,
            clients,
            operators,
            tokens,
            accounts,
        })
    }

    fn officers(&self, written: &written::Policy) -> Read<Officers> {
        let signer = |text: &Spanned<String>| {
            address(text.get_ref())
                .map_err(|e| self.at(&text.span(), format_args!("`{}` {e}", text.get_ref())))
        };
        let signers = written.signers.iter().map(signer).collect::<Read<Vec<_>>>()?;
        self.unique("[policy] signers", signers.iter())?;
        let required = written.required_signatures.unwrap_or_default();
        if required > signers.len() || (required == 0 && !signers.is_empty()) {
            return Err(self.wrong(
                "[policy] required_signatures is how many of `signers` must have signed the policy: from 1 to as many as there are",
            ));
        }
        Ok(Officers { signers, required })
    }

    fn auto_bump(&self, written: &Spanned<written::AutoBump>) -> Read<AutoBump> {
        let bump = written.get_ref();
        let step = bump.step.unwrap_or(15);
        if !(10..=1000).contains(&step) {
            return Err(
                self.at(&written.span(), "`step` is 10 to 1000 (per cent): pools take no less than 10")
            );
        }
        let up_to = units::wei(bump.up_to.get_ref()).map_err(|e| self.at(&bump.up_to.span(), e))?;
        let too_high =
            |_| self.at(&bump.up_to.span(), "`up_to` is a fee for a unit of gas, such as \"300 gwei\"");
        let after = self.duration(Some(&bump.after), Duration::ZERO)?;
        if after < Duration::from_secs(1) {
            return Err(self.at(&bump.after.span(), "`after` is at least 1 s"));
        }
        Ok(AutoBump { after, step, up_to: u128::try_from(up_to).map_err(too_high)? })
    }

    fn signer(&self, written: &written::Signer) -> Read<Signer> {
        let deadline = self.duration(written.deadline.as_ref(), Duration::from_secs(6))?;
        if let Some(text) = written.deadline.as_ref().filter(|_| !DEADLINES.contains(&deadline)) {
            return Err(self.at(&text.span(), "`deadline` is 100 ms to 60 s"));
        }
        Ok(Signer {
            allow_software_keys: written.allow_software_keys,
            deadline,
            user: written.user.as_ref().map(|user| self.name(user)).transpose()?,
            max_stuck: written.max_stuck.unwrap_or(8),
            drill_every: self.duration(written.drill_every.as_ref(), DAY.saturating_mul(90))?,
        })
    }

    fn name(&self, written: &Text) -> Read<String> {
        let name = written.get_ref();
        if !is_name(name) {
            return Err(self.at(&written.span(), "a name has 1 to 64 letters, digits, `-`, `_` or `.`"));
        }
        Ok(name.clone())
    }

    /// What is shown and kept beside a name.
    fn person(&self, written: &Text) -> Read<String> {
        let person = written.get_ref();
        if person.is_empty() || person.chars().count() > 200 || person.chars().any(char::is_control) {
            return Err(self.at(&written.span(), "a person is one line of 1 to 200 characters"));
        }
        Ok(person.clone())
    }

    fn path(&self, written: &Text) -> PathBuf {
        self.folder.join(written.get_ref())
    }

    fn parse<T: FromStr>(&self, written: &Text, expected: &str) -> Read<T> {
        let wrong =
            |_| self.at(&written.span(), format_args!("`{}`: expected {expected}", written.get_ref()));
        written.get_ref().parse().map_err(wrong)
    }

    fn duration(&self, written: Option<&Text>, default: Duration) -> Read<Duration> {
        written
            .map_or(Ok(default), |text| units::duration(text.get_ref()).map_err(|e| self.at(&text.span(), e)))
    }

    fn size(&self, written: Option<&Text>, default: u64) -> Read<u64> {
        written.map_or(Ok(default), |text| units::bytes(text.get_ref()).map_err(|e| self.at(&text.span(), e)))
    }

    fn unique<T: Ord + Display>(&self, what: &str, values: impl IntoIterator<Item = T>) -> Read<()> {
        let mut seen = BTreeSet::new();
        for value in values {
            if let Some(twice) = seen.replace(value) {
                return Err(self.wrong(format_args!("{what} `{twice}` stands there twice")));
            }
        }
        Ok(())
    }

    fn at(&self, span: &Range<usize>, what: impl Display) -> ConfigError {
        ConfigError::at(self.file, self.text, span, what)
    }

    fn wrong(&self, what: impl Display) -> ConfigError {
        ConfigError::new(self.file, what)
    }
}

/// Whether it can be a name, which is compared, logged and put into metrics.
pub fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= 64 && name.chars().all(plain)
}

/// Where a path leads, if it is one: links are no second token.
fn real(path: impl AsRef<Path>) -> PathBuf {
    std::fs::canonicalize(&path).unwrap_or_else(|_| path.as_ref().to_owned())
}

fn hosts(written: &[Text]) -> Vec<String> {
    written.iter().map(|host| host.get_ref().to_ascii_lowercase()).collect()
}

fn names<'a>(clients: &'a [Client], operators: &'a [Operator]) -> impl Iterator<Item = &'a String> {
    clients.iter().map(|c| &c.name).chain(operators.iter().map(|o| &o.name))
}

/// Each with its issuer: two issuers may give the same name to two clients.
fn identities<'a>(clients: &'a [Client], operators: &'a [Operator]) -> impl Iterator<Item = String> {
    let clients = clients.iter().map(|c| (&c.identity, &c.issuer));
    let all = clients.chain(operators.iter().map(|o| (&o.identity, &o.issuer)));
    all.map(|(identity, issuer)| format!("{identity} of {issuer}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Limits, OWN_ISSUER, Revocation};

    const GOOD: &str = r#"
[gateway]
listen = "127.0.0.1:8545"
hosts = ["Localhost:8545"]
certificate = "certs/server.pem"
key = "certs/server.key"
client_ca = "certs/ca.pem"

[chain]
id = 1
node = "http://127.0.0.1:8546"

[policy]
directory = "policies"

[ledger]
path = "state/ledger.sqlite"

[[token]]
name = "main"
module = "/usr/lib/softhsm/libsofthsm2.so"
label = "chancery"
pin_file = "pin"

[[account]]
name = "treasury"
address = "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045"
token = "main"
key = "treasury"

[[client]]
name = "trader"
identity = "spiffe://desk/trader"
role = "trader"
accounts = ["treasury"]
"#;

    fn read(text: &str) -> Read<Config> {
        Config::parse(Path::new("/etc/chancery/chancery.toml"), text)
    }

    #[test]
    fn a_good_file_is_read_and_its_paths_start_from_its_folder() {
        let config = read(GOOD).unwrap();
        assert_eq!(config.gateway.issuers[0].client_ca, Path::new("/etc/chancery/certs/ca.pem"));
        assert_eq!(config.gateway.hosts, ["localhost:8545"]);
        assert_eq!(config.clients[0].accounts, [config.accounts[0].address]);
        assert_eq!(config.limits, Limits::default());
    }

    #[test]
    fn each_mistake_is_named_with_its_line() {
        for (right, wrong, line, what) in [
            ("listen = ", "lisen = ", 3, "unknown field `lisen`"),
            ("\"127.0.0.1:8545\"", "\"localhost\"", 3, "expected an address and port"),
            ("\"http://127", "\"ws://127", 11, "not a URL of a node"),
            ("96045\"", "96046\"", 27, "checksum"),
            (
                "label = ",
                "profile = \"lunar\"\nlabel = ",
                22,
                "no profile `lunar`; there are generic, softhsm2, luna",
            ),
            ("pin_file", "sandbox = \"of\"\npin_file", 23, "expected \"on\" or \"off\""),
            ("pin_file", "sandbox = \"off\"\nnetwork = true\npin_file", 23, "leave them out"),
            ("pin_file = \"pin\"", "", 20, "needs `pin_file`, `pin_fd` or `pin_credential`"),
            ("pin_file", "pin_fd = 5\npin_file", 23, "exclude each other"),
            ("pin_file =", "pin_fd = 5\npin_credential =", 24, "exclude each other"),
            ("pin_file = \"pin\"", "pin_fd = 2", 23, "standard input"),
            ("pin_file = \"pin\"", "pin_fd = -1", 23, "3 or more"),
            ("pin_file = \"pin\"", "pin_credential = \"../pin\"", 23, "no `/`"),
            ("token = \"main\"", "token = \"main\"\nbackups = [\"other\"]", 29, "no [[token]] named `other`"),
            ("token = \"main\"", "token = \"main\"\nbackups = [\"main\"]", 29, "twice"),
            ("token = \"main\"", "token = \"main\"\norder = \"any\"", 29, "expected `primary-backup`"),
            (
                "token = \"main\"\nkey =",
                "keystore = \"k\"\norder = \"round-robin\"\npassword_file =",
                26,
                "`keystore`",
            ),
            ("token = \"main\"", "token = \"spare\"", 28, "no [[token]] named `spare`"),
            ("[\"treasury\"]", "[\"tresury\"]", 35, "no [[account]] named `tresury`"),
            ("name = \"trader\"", "name = \"tra der\"", 32, "a name has"),
            ("name = \"trader\"", "name = \"trader\"\nperson = \"a\\u0000\"", 33, "a person is one line"),
            ("id = 1", "id = \"1\"", 10, "invalid type"),
            ("[chain]", "[signer]\ndeadline = \"99ms\"\n[chain]", 10, "100 ms to 60 s"),
            ("[chain]", "[signer]\ndeadline = \"61s\"\n[chain]", 10, "100 ms to 60 s"),
            ("client_ca", "proxy_protocol = [\"10.0.0.0/33\"]\nclient_ca", 7, "an address or a block"),
            ("client_ca", "crl = \"required\"\nclient_ca", 7, "name the files"),
            ("client_ca", "crls = [\"a\"]\ncrl = \"no\"\nclient_ca", 8, "\"required\" or \"optional\""),
            ("spiffe://desk/trader", "spiffe://Desk/trader", 33, "trust domain of a SPIFFE ID"),
            ("role = \"trader\"", "issuer = \"partner\"", 34, "no [[issuer]] named `partner`"),
        ] {
            let error = read(&GOOD.replacen(right, wrong, 1)).expect_err(wrong);
            assert_eq!(error.line, Some(line), "{error}");
            assert!(error.to_string().contains(what), "{error}");
        }
    }

    #[test]
    fn names_and_identities_are_unique() {
        let twice = format!(
            "{GOOD}\n[[operator]]\nname = \"ops\"\nidentity = \"spiffe://desk/trader\"\nrole = \"admin\"\nperson = \"Ada\"\n"
        );
        assert!(read(&twice).unwrap_err().what.contains("stands there twice"));
        let desk = "\n[[client]]\nname = \"desk\"\nidentity = \"spiffe://desk/2\"\nrole = \"trader\"\n";
        assert!(read(&format!("{GOOD}{desk}")).unwrap_err().what.contains("would mean both"));
        let token = GOOD.split("\n\n").find(|table| table.starts_with("[[token]]")).unwrap();
        let token = token.replace("\"main\"", "\"second\"");
        assert!(read(&format!("{GOOD}\n{token}\n")).unwrap_err().what.contains("behind a [[token]]"));
        let folder = tempfile::tempdir().unwrap();
        let [module, link, other] = ["m.so", "l.so", "o.so"].map(|name| folder.path().join(name));
        std::fs::write(&module, "").unwrap();
        std::fs::write(&other, "").unwrap();
        std::os::unix::fs::symlink(&module, &link).unwrap();
        let with =
            |text: &str, path: &Path| text.replace("/usr/lib/softhsm/libsofthsm2.so", path.to_str().unwrap());
        let both = |path| format!("{}\n{}\n", with(GOOD, &module), with(&token, path));
        assert!(read(&both(&link)).unwrap_err().what.contains("behind a [[token]]"));
        read(&both(&other)).unwrap();
    }

    #[test]
    fn two_issuers_may_have_clients_of_one_name() {
        let partner = "\n[[issuer]]\nname = \"partner\"\nclient_ca = \"p.pem\"\ncrls = [\"p.crl\"]\n";
        let desk = "\n[[client]]\nname = \"other\"\nidentity = \"spiffe://desk/trader\"\n";
        let config = read(&format!("{GOOD}{partner}{desk}issuer = \"partner\"\n")).unwrap();
        let [own, other] = &config.gateway.issuers[..] else { panic!("two") };
        assert_eq!((own.revocation, other.revocation), (Revocation::Unchecked, Revocation::Required));
        assert_eq!((&*config.clients[0].issuer, &*config.clients[1].issuer), (OWN_ISSUER, "partner"));
        assert!(read(&format!("{GOOD}{partner}{desk}")).unwrap_err().what.contains("stands there twice"));
        let own = partner.replace("\"partner\"", "\"gateway\"");
        assert!(read(&format!("{GOOD}{own}")).unwrap_err().what.contains("choose another name"));
    }

    #[test]
    fn origins_are_origins() {
        let with = |origin: &str| read(&format!("{GOOD}origins = [\"{origin}\"]\n"));
        for good in
            ["https://desk.example", "chrome-extension://abcdef", "moz-extension://*", "http://[::1]:3000"]
        {
            with(good).unwrap_or_else(|e| panic!("{good}: {e}"));
        }
        for bad in ["null", "*", "https://*", "desk.example", "https://", "https://desk.example/", ""] {
            assert!(with(bad).unwrap_err().what.contains("is no origin"), "{bad}");
        }
    }

    #[test]
    fn the_key_of_checkpoints_is_no_clients() {
        let with = |audit: &str| read(&format!("{GOOD}\n[audit]\nkey = \"{audit}"));
        assert!(with("treasury\"").unwrap_err().what.contains("may not use it"));
        assert!(with("seal\"").unwrap_err().what.contains("no [[account]]"));
        let sealed = GOOD.replace(
            "[[client]]",
            "[[account]]\nname = \"seal\"\naddress = \"0x70997970C51812dc3A010C7d01b50e0d17dc79C8\"\ntoken = \"main\"\nkey = \"seal\"\n\n[[client]]",
        );
        let with = |more: &str| read(&format!("{sealed}\n[audit]\nkey = \"seal\"\n{more}"));
        let audit = with("file = \"seal.jsonl\"").unwrap().audit.unwrap();
        assert_eq!((audit.every_rows, audit.file), (1000, Some("/etc/chancery/seal.jsonl".into())));
        with("webhook = \"https://watch.example/KEY\"").unwrap();
        with("webhook = \"http://127.0.0.1:8000/\"").unwrap();
        for wrong in [
            "webhook = \"http://watch.example/\"",
            "webhook = \"http://127.0.0.1.example/\"",
            "webhook = \"http://127.0.0.1:80@example/\"",
            "every_rows = 3",
            "every = \"0s\"",
            "webhook_secret_file = \"x\"",
        ] {
            assert!(with(wrong).is_err(), "{wrong}");
        }
        assert!(read(&GOOD.replace("\"trader\"\nidentity", "\"chancery\"\nidentity")).is_err());
    }

    #[test]
    fn software_keys_must_be_allowed() {
        let soft = GOOD
            .replace("token = \"main\"\nkey = \"treasury\"", "keystore = \"k.json\"\npassword_file = \"p\"");
        assert!(read(&soft).unwrap_err().what.contains("allow_software_keys"));
        assert!(read(&format!("{soft}\n[signer]\nallow_software_keys = true\n")).is_ok());
    }
}
