//! May it be signed: policy files become rules, and rules decide. No I/O on the path of a request.

mod permitted;

pub use permitted::Permitted;
