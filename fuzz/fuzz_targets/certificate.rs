//! A certificate's DER, however broken: one identity of the wanted kind, or none.
#![no_main]

use chancery::config::IdentityKind;
use chancery::identity::Certificate;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|der: &[u8]| {
    for kind in [IdentityKind::Uri, IdentityKind::Dns] {
        let _ = Certificate::read(der, kind);
    }
});
