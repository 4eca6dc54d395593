//! What a token says of itself and of a key: read, never judged.

use std::collections::BTreeMap;

use cryptoki::context::Pkcs11;
use cryptoki::error::Error;
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use cryptoki::slot::{Limit, TokenInfo};

use crate::signer::worker::attributes::form_of;
use crate::signer::worker::errors::said;

type Facts = BTreeMap<&'static str, String>;

pub(super) fn of_module(module: &Pkcs11) -> Result<Facts, Error> {
    let info = module.get_library_info()?;
    Ok(Facts::from([
        ("cryptoki", info.cryptoki_version().to_string()),
        ("manufacturer", info.manufacturer_id().trim_end().to_owned()),
        ("description", info.library_description().trim_end().to_owned()),
        ("version", info.library_version().to_string()),
    ]))
}

pub(super) fn of_token(info: &TokenInfo) -> Facts {
    let limit = |limit: Limit| match limit {
        Limit::Max(max) => max.to_string(),
        Limit::Infinite => "no limit".to_owned(),
        Limit::Unavailable => "not said".to_owned(),
    };
    Facts::from([
        ("label", info.label().trim_end().to_owned()),
        ("manufacturer", info.manufacturer_id().trim_end().to_owned()),
        ("model", info.model().trim_end().to_owned()),
        ("serial", info.serial_number().trim_end().to_owned()),
        ("hardware", info.hardware_version().to_string()),
        ("firmware", info.firmware_version().to_string()),
        ("max sessions", limit(info.max_session_count())),
        ("max read-write sessions", limit(info.max_rw_session_count())),
        ("login required", info.login_required().to_string()),
        ("protected authentication path", info.protected_authentication_path().to_string()),
        ("wrong PINs were tried", info.user_pin_count_low().to_string()),
    ])
}

/// The attributes that matter, by their names.
pub(super) fn of_key(session: &Session, key: ObjectHandle) -> BTreeMap<String, String> {
    let asked = [
        ("CKA_KEY_TYPE", AttributeType::KeyType),
        ("CKA_EC_PARAMS", AttributeType::EcParams),
        ("CKA_ID", AttributeType::Id),
        ("CKA_TOKEN", AttributeType::Token),
        ("CKA_PRIVATE", AttributeType::Private),
        ("CKA_SENSITIVE", AttributeType::Sensitive),
        ("CKA_ALWAYS_SENSITIVE", AttributeType::AlwaysSensitive),
        ("CKA_EXTRACTABLE", AttributeType::Extractable),
        ("CKA_NEVER_EXTRACTABLE", AttributeType::NeverExtractable),
        ("CKA_LOCAL", AttributeType::Local),
        ("CKA_SIGN", AttributeType::Sign),
        ("CKA_DERIVE", AttributeType::Derive),
        ("CKA_DECRYPT", AttributeType::Decrypt),
        ("CKA_UNWRAP", AttributeType::Unwrap),
        ("CKA_WRAP_WITH_TRUSTED", AttributeType::WrapWithTrusted),
        ("CKA_MODIFIABLE", AttributeType::Modifiable),
        ("CKA_COPYABLE", AttributeType::Copyable),
        ("CKA_DESTROYABLE", AttributeType::Destroyable),
        ("CKA_ALWAYS_AUTHENTICATE", AttributeType::AlwaysAuthenticate),
        ("CKA_UNIQUE_ID", AttributeType::UniqueId),
    ];
    // One by one: some tokens refuse all because of one that they do not know.
    let value = |attribute| match session.get_attributes(key, &[attribute]) {
        Ok(found) => found.first().map_or_else(|| "absent".to_owned(), shown),
        Err(error) => said(&error),
    };
    asked.into_iter().map(|(name, attribute)| (name.to_owned(), value(attribute))).collect()
}

/// Where the public key stands, and in which form.
pub(super) fn point_of(session: &Session, private: ObjectHandle) -> Option<String> {
    let point = |object| {
        let found = session.get_attributes(object, &[AttributeType::EcPoint]).unwrap_or_default();
        found.into_iter().find_map(|a| if let Attribute::EcPoint(point) = a { form_of(&point) } else { None })
    };
    let id = session.get_attributes(private, &[AttributeType::Id]).unwrap_or_default();
    let public = [id.as_slice(), &[Attribute::Class(ObjectClass::PUBLIC_KEY)]].concat();
    let public = if id.is_empty() { Vec::new() } else { session.find_objects(&public).unwrap_or_default() };
    let on_public = public.into_iter().find_map(point).map(|form| format!("{form}, on the public key"));
    on_public.or_else(|| point(private).map(|form| format!("{form}, on the private key")))
}

fn shown(attribute: &Attribute) -> String {
    let hex = |bytes: &[u8]| alloy_primitives::hex::encode(bytes);
    match attribute {
        Attribute::EcParams(bytes) | Attribute::Id(bytes) | Attribute::UniqueId(bytes) => hex(bytes),
        other => {
            // `Sensitive(true)` is `true`.
            let text = format!("{other:?}");
            let inner = text.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
            inner.map_or(text.clone(), ToOwned::to_owned)
        }
    }
}
