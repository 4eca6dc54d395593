//! A body that the strict scan takes means the same to serde_json: no key twice, same method, id and params.
#![no_main]

use chancery::rpc::{Body, Bounds, Entry};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const BOUNDS: Bounds = Bounds { max_batch: 100, max_depth: 32 };

fuzz_target!(|body: &[u8]| {
    let Ok(read) = Body::read(body, BOUNDS) else { return };
    let value: Value = serde_json::from_slice(body).expect("what the scan takes is JSON");
    match read {
        Body::Single(entry) => same(&entry, &value),
        Body::Batch(entries) => {
            let values = value.as_array().expect("a batch is an array");
            assert_eq!(entries.len(), values.len());
            entries.iter().zip(values).for_each(|(entry, value)| same(entry, value));
        }
    }
});

fn same(entry: &Entry<'_>, value: &Value) {
    let Ok(envelope) = entry else { return };
    let value = value.as_object().expect("a call is an object");
    assert!(value.keys().all(|key| ["jsonrpc", "id", "method", "params"].contains(&&**key)));
    assert_eq!(Some(&*envelope.method), value["method"].as_str());
    let id = envelope.id.as_ref().map(|id| serde_json::to_value(id).expect("an id is JSON"));
    assert_eq!(id.as_ref(), value.get("id"));
    let params = envelope.params.map(|params| serde_json::from_str(params.get()).expect("params are JSON"));
    assert_eq!(params.as_ref(), value.get("params").filter(|params| !params.is_null()));
}
