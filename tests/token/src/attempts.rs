//! What a module that somebody took over would try.

use std::fs::OpenOptions;
use std::io::{Error, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use crate::folder;

/// One line each: what was tried, and `done` or the kind of the error.
pub fn make(attempts: &[String]) {
    if attempts.is_empty() {
        return;
    }
    let mut text = String::new();
    for attempt in attempts {
        let (verb, on) = attempt.split_once(' ').expect("a verb and what it is on");
        let result = match verb {
            "read" => std::fs::read(on).map(drop),
            "write" => OpenOptions::new().append(true).create(true).open(on).map(drop),
            "connect" => TcpStream::connect(on).map(drop),
            "datagram" => UnixDatagram::unbound().map(drop),
            "run" => Command::new(on).status().map(drop),
            _ => Err(Error::other("there is no such attempt")),
        };
        let came = result.map_or_else(|error| format!("{:?}", error.kind()), |()| "done".to_owned());
        text += &format!("{attempt}: {came}\n");
    }
    let (new, file) = (folder().join("tried.new"), folder().join("tried"));
    let mut written = std::fs::File::create(&new).expect("the attempts are written");
    written.write_all(text.as_bytes()).expect("the attempts are written");
    std::fs::rename(new, file).expect("the attempts are written");
}
