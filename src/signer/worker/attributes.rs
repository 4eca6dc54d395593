//! Reading a key's attributes: which curve, which point, and whether it may ever leave the token.

use alloy_primitives::Address;

use crate::transaction::address_of_point;

/// The DER of the OID 1.3.132.0.10, secp256k1 (SEC 2), as `CKA_EC_PARAMS` holds it.
pub(super) const SECP256K1: [u8; 7] = [0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a];

/// The address of what a token has in `CKA_EC_POINT`.
///
/// PKCS#11 wants the DER OCTET STRING of the uncompressed point (67 bytes); tokens also give the raw point (65), a
/// BIT STRING (68), the compressed point (33, or 35 in DER) or X and Y alone (64). 0x04 begins both an OCTET STRING
/// and a raw point, so the length decides.
pub(super) fn address_of(ec_point: &[u8]) -> Option<Address> {
    match ec_point {
        [0x04, 0x41, point @ ..] if ec_point.len() == 67 => address_of_point(point),
        [0x04, 0x21, point @ ..] if ec_point.len() == 35 => address_of_point(point),
        [0x03, 0x42, 0x00, point @ ..] if ec_point.len() == 68 => address_of_point(point),
        xy if xy.len() == 64 => address_of_point(&[&[0x04], xy].concat()),
        point if matches!(point.len(), 33 | 65) => address_of_point(point),
        _ => None,
    }
}

/// In which of these forms it is.
pub(super) fn form_of(ec_point: &[u8]) -> Option<String> {
    address_of(ec_point)?;
    let form = match ec_point.len() {
        67 => "DER OCTET STRING of the uncompressed point",
        35 => "DER OCTET STRING of the compressed point",
        68 => "BIT STRING of the uncompressed point",
        65 => "raw uncompressed point",
        33 => "raw compressed point",
        _ => "X and Y alone",
    };
    Some(format!("{form} ({} bytes)", ec_point.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k256::ecdsa::SigningKey;
    use k256::elliptic_curve::sec1::ToEncodedPoint as _;

    #[test]
    fn every_form_of_a_point_is_the_same_address() {
        let key = SigningKey::from_slice(&[0x42; 32]).unwrap();
        let point = key.verifying_key().as_affine().to_encoded_point(false);
        let (point, short) = (point.as_bytes(), key.verifying_key().as_affine().to_encoded_point(true));
        let expected: Address = "0x17c5185167401eD00cF5F5b2fc97D9BBfDb7D025".parse().unwrap();
        for form in [
            point.to_vec(),
            [&[0x04, 0x41], point].concat(),
            [&[0x03, 0x42, 0x00], point].concat(),
            point[1..].to_vec(),
            short.as_bytes().to_vec(),
            [&[0x04, 0x21], short.as_bytes()].concat(),
        ] {
            assert_eq!(address_of(&form), Some(expected), "{} bytes", form.len());
        }
        for wrong in [&[][..], &[0x04], &point[..64], &[0; 65], &[0x04; 67]] {
            assert_eq!(address_of(wrong), None);
        }
    }
}
