//! Keys made by openssl, for these tests alone, and their names as it tells them:
//! `openssl pkey -pubout -outform DER | sha256sum`.

#![allow(clippy::unwrap_used)]

use super::*;

const RSA_PKCS1: &str = "\
-----BEGIN RSA PRIVATE KEY-----
MIIEpQIBAAKCAQEAw5qptgOdvqAbcHpdW5zrETz2QtC8UzpOzyS1NyayjHtuNJ2H
qoGb6PjwJF8gyxQlbmZkp/YgSi7VZ6u0Fe7U5tALY/2oezqr1eTSoSXP+Ru9qlCi
H4beCpCgzCqtsgB7v6zDMovCc82iUtvdTwcSxF5AaGo5NaLF4jOPG6Vw3KwgmWzt
0q56mvwvFZtX+YlGThHRySD1e0hP9aGQaIF+bQHWl8xswJOVc/v4w9K6dP+7iKgE
6WEe0HBbsfL2yxa8l9sf/YwhSRDWtPJ5zqxr8EIFBWzP95zgi3FFvcBMPMMXFXHs
qNE8E+lXulMml1kYZdaiFeRqYitEZWnoINsL8QIDAQABAoIBAAOs8tZ0P/EWkh1t
dzai/rnOsvPzdy57MILs9ijIpd9E7H+5nBSEpfjdQKn2TafzQ3bNHsQXOGkccy8l
B1fIKqEBtM0WtaVHJ3Z3+8tCaiOMtWYvaLR99MsvB45+mM/4+VpTNUHMZYWGji/P
aNu0ztH40W4E3PlYiy5ieKR02eeTnghf36GxyUpkf3HedKt6hWZTNwj+Hn3MWYTA
azbVDjyH+7OIpJr8977t2hjxSfMpteT5LijyoZrHibj4thnkdfmrd8XdembxHsxf
O0g+bQnuO1RgRZlBfBQG27K5Vq79fCGaUf7jSmQFwcPV11OwHF4b6GyozOC/K1DR
XNmLNWECgYEA6VNbJvlE1Yf537fM8QukJ5XVzcsOBo8ThuUN+BBXCtMzsuhZcQc8
nO7RUgdRsvApZhkGvrtn5RUBlzqkZ7jkJ7axDJNeXFy7GECLdilzCdivD2uLlCHE
ViRK2iZQ3BhkYhj/58aHT9/41lLGCJvlDz21bN+exddvY4cSY0bT4+kCgYEA1pzg
nNgUG1GftNZ/0RBc4dgEBZzBcvEFOEH10unUysl3nUokReidztzEKaMqrdSGShGM
3+Cv1Y3gyY6aUJUlneUgNq8+3Q2xyInOtmyjcgZDmbJ9+lk031FwsHxMvexqh9vR
nzBkDqUzlwEmZHJEhkC0sHgErG5z8Kt6nYEmCskCgYEA4+K3D4y8bzXclmXFM9Sj
4snURahCLaPGdaT4DMWgzgDT6LRIzz07NSeHp+9gGz23oXFmBhmx8quenx72fhu2
MxebOuYgbmNflONNkv4Ozpok+RGYBPkp8tyFgyWTKjRkru8t2ikr9ZaSSnoT00q3
4TfrH8gVIbQ1pebBzdbakykCgYEA1HA74uX9mUFGDvMZWPCSkLiM2qVd1JKCcTrR
xHLUwduF/PvMRitKMt/TicfLUoECYUVYJrC6PXGQ5tOzKztIHjEVnyv/1T9eEb1g
ErIdZJyQxA6sp2kwbjKmkvyn1oS0u0E8EhELqnebRsnLoDiAXkik094p+innuH92
A305FAkCgYEA3fltX4cQ7wbywL4bV9T7SDsndKnA1Bjp/wdWRfrTxRMUYboDPcI8
N110XjnpDr5xoAz2pgLLgWpHwrfanhqENoL6CKXvjNDRCqEcguZr1ieCRt4So4RI
ENUkN5y+XOgjSUzjsUncN38U3RwxEtQxvv8NK3c8WhNUfKPZVQe9Mto=
-----END RSA PRIVATE KEY-----
";
const RSA_PKCS8: &str = "\
-----BEGIN PRIVATE KEY-----
MIIEvwIBADANBgkqhkiG9w0BAQEFAASCBKkwggSlAgEAAoIBAQDDmqm2A52+oBtw
el1bnOsRPPZC0LxTOk7PJLU3JrKMe240nYeqgZvo+PAkXyDLFCVuZmSn9iBKLtVn
q7QV7tTm0Atj/ah7OqvV5NKhJc/5G72qUKIfht4KkKDMKq2yAHu/rMMyi8JzzaJS
291PBxLEXkBoajk1osXiM48bpXDcrCCZbO3Srnqa/C8Vm1f5iUZOEdHJIPV7SE/1
oZBogX5tAdaXzGzAk5Vz+/jD0rp0/7uIqATpYR7QcFux8vbLFryX2x/9jCFJENa0
8nnOrGvwQgUFbM/3nOCLcUW9wEw8wxcVceyo0TwT6Ve6UyaXWRhl1qIV5GpiK0Rl
aegg2wvxAgMBAAECggEAA6zy1nQ/8RaSHW13NqL+uc6y8/N3Lnswguz2KMil30Ts
f7mcFISl+N1AqfZNp/NDds0exBc4aRxzLyUHV8gqoQG0zRa1pUcndnf7y0JqI4y1
Zi9otH30yy8Hjn6Yz/j5WlM1QcxlhYaOL89o27TO0fjRbgTc+ViLLmJ4pHTZ55Oe
CF/fobHJSmR/cd50q3qFZlM3CP4efcxZhMBrNtUOPIf7s4ikmvz3vu3aGPFJ8ym1
5PkuKPKhmseJuPi2GeR1+at3xd16ZvEezF87SD5tCe47VGBFmUF8FAbbsrlWrv18
IZpR/uNKZAXBw9XXU7AcXhvobKjM4L8rUNFc2Ys1YQKBgQDpU1sm+UTVh/nft8zx
C6QnldXNyw4GjxOG5Q34EFcK0zOy6FlxBzyc7tFSB1Gy8ClmGQa+u2flFQGXOqRn
uOQntrEMk15cXLsYQIt2KXMJ2K8Pa4uUIcRWJEraJlDcGGRiGP/nxodP3/jWUsYI
m+UPPbVs357F129jhxJjRtPj6QKBgQDWnOCc2BQbUZ+01n/REFzh2AQFnMFy8QU4
QfXS6dTKyXedSiRF6J3O3MQpoyqt1IZKEYzf4K/VjeDJjppQlSWd5SA2rz7dDbHI
ic62bKNyBkOZsn36WTTfUXCwfEy97GqH29GfMGQOpTOXASZkckSGQLSweASsbnPw
q3qdgSYKyQKBgQDj4rcPjLxvNdyWZcUz1KPiydRFqEIto8Z1pPgMxaDOANPotEjP
PTs1J4en72AbPbehcWYGGbHyq56fHvZ+G7YzF5s65iBuY1+U402S/g7OmiT5EZgE
+Sny3IWDJZMqNGSu7y3aKSv1lpJKehPTSrfhN+sfyBUhtDWl5sHN1tqTKQKBgQDU
cDvi5f2ZQUYO8xlY8JKQuIzapV3UkoJxOtHEctTB24X8+8xGK0oy39OJx8tSgQJh
RVgmsLo9cZDm07MrO0geMRWfK//VP14RvWASsh1knJDEDqynaTBuMqaS/KfWhLS7
QTwSEQuqd5tGycugOIBeSKTT3in6Kee4f3YDfTkUCQKBgQDd+W1fhxDvBvLAvhtX
1PtIOyd0qcDUGOn/B1ZF+tPFExRhugM9wjw3XXReOekOvnGgDPamAsuBakfCt9qe
GoQ2gvoIpe+M0NEKoRyC5mvWJ4JG3hKjhEgQ1SQ3nL5c6CNJTOOxSdw3fxTdHDES
1DG+/w0rdzxaE1R8o9lVB70y2g==
-----END PRIVATE KEY-----
";
const RSA_PUBLIC: &str = "\
-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAw5qptgOdvqAbcHpdW5zr
ETz2QtC8UzpOzyS1NyayjHtuNJ2HqoGb6PjwJF8gyxQlbmZkp/YgSi7VZ6u0Fe7U
5tALY/2oezqr1eTSoSXP+Ru9qlCiH4beCpCgzCqtsgB7v6zDMovCc82iUtvdTwcS
xF5AaGo5NaLF4jOPG6Vw3KwgmWzt0q56mvwvFZtX+YlGThHRySD1e0hP9aGQaIF+
bQHWl8xswJOVc/v4w9K6dP+7iKgE6WEe0HBbsfL2yxa8l9sf/YwhSRDWtPJ5zqxr
8EIFBWzP95zgi3FFvcBMPMMXFXHsqNE8E+lXulMml1kYZdaiFeRqYitEZWnoINsL
8QIDAQAB
-----END PUBLIC KEY-----
";
const P384_SEC1: &str = "\
-----BEGIN EC PARAMETERS-----
BgUrgQQAIg==
-----END EC PARAMETERS-----
-----BEGIN EC PRIVATE KEY-----
MIGkAgEBBDB/ZJj/Jh7IcvR/NkpPQYJ7s+fbi5QzgGOyWHAiWPJWrifrFGLg+mGP
jEbN67/DFfKgBwYFK4EEACKhZANiAAS6BTyiYJHzipr6Bskjt2acnIbZxsRsuTfN
Akym2+6tK6wQlFWmH0Zs6t6U8BJm4LkWufnkdqOO4j3ABHDlrz/YnKBEbb8i5x6k
e+uNyxRg9Ss4XvAWv+v3vZv6nWec7yo=
-----END EC PRIVATE KEY-----
";
const P384_PKCS8: &str = "\
-----BEGIN PRIVATE KEY-----
MIG2AgEAMBAGByqGSM49AgEGBSuBBAAiBIGeMIGbAgEBBDB/ZJj/Jh7IcvR/NkpP
QYJ7s+fbi5QzgGOyWHAiWPJWrifrFGLg+mGPjEbN67/DFfKhZANiAAS6BTyiYJHz
ipr6Bskjt2acnIbZxsRsuTfNAkym2+6tK6wQlFWmH0Zs6t6U8BJm4LkWufnkdqOO
4j3ABHDlrz/YnKBEbb8i5x6ke+uNyxRg9Ss4XvAWv+v3vZv6nWec7yo=
-----END PRIVATE KEY-----
";
const P384_PUBLIC: &str = "\
-----BEGIN PUBLIC KEY-----
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEugU8omCR84qa+gbJI7dmnJyG2cbEbLk3
zQJMptvurSusEJRVph9GbOrelPASZuC5Frn55HajjuI9wARw5a8/2JygRG2/Iuce
pHvrjcsUYPUrOF7wFr/r972b+p1nnO8q
-----END PUBLIC KEY-----
";
const P256_SEC1: &str = "\
-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIPNtyNl/LhVrtn4fQv8sHRWi3Dwra9tq061sNyRCp+YToAoGCCqGSM49
AwEHoUQDQgAE5O9Z0rE/IpFhoOc2DrozmooaknPWwa9XpBq0V1Fd+3ocIAHfTiQV
EQyEKNK4ZGlArBPPrfkaopddfNPAG+AZpw==
-----END EC PRIVATE KEY-----
";
const P256_CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBbzCCARWgAwIBAgIUFtuDeWbvK0M/HJ2X4DoeYDPejvQwCgYIKoZIzj0EAwIw
DDEKMAgGA1UEAwwBeDAgFw0yNjExMzAwODA5MThaGA8yMTI2MTEwNjA4MDkxOFow
DDEKMAgGA1UEAwwBeDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABOTvWdKxPyKR
YaDnNg66M5qKGpJz1sGvV6QatFdRXft6HCAB304kFREMhCjSuGRpQKwTz635GqKX
XXzTwBvgGaejUzBRMB0GA1UdDgQWBBSePmMzWflTIwA6K0bUKtU5NheaCDAfBgNV
HSMEGDAWgBSePmMzWflTIwA6K0bUKtU5NheaCDAPBgNVHRMBAf8EBTADAQH/MAoG
CCqGSM49BAMCA0gAMEUCIQD5kaPwFsmY3f3XJs3YQdLdZirGHeXIYmKk+rKdgtVV
DQIgc3Mb9+QLqrKczatYNNQwrMsj/QbvP0KZBRl+Q1HRvIs=
-----END CERTIFICATE-----
";
const P521_PUBLIC: &str = "\
-----BEGIN PUBLIC KEY-----
MIGbMBAGByqGSM49AgEGBSuBBAAjA4GGAAQBndi50pz0zP1xRNqLpHTTJIbBzN+S
MQ4MNR8qrNF+KdjWLplXONn+I8ujoy2fkwmJKRe/sfTQIkaP16x44ogqP24BboZA
eKNEw1Y9TdyeMj7IbKPEk7pm/5l2/gLFFBahbzPla0+syxqkMYsLIJvQkwYbP7UG
EmP2gdIJVGKwt6WuJIE=
-----END PUBLIC KEY-----
";

const RSA_ID: &str = "eWWTcIW8aA04gwHY4ITvQBjLYQHRh5aYJ4tzk5oDXLQ";
const P384_ID: &str = "i99uqfeiFe3o3UzoU5z_EQTov8dXSqWdrVGrDmhw6NA";
const P256_ID: &str = "siSARTe6C-91g4K05jN0fc_vdmxkHfePy-QZdOdDyms";

/// Point and name of a key as a stock server tells them.
#[test]
fn a_key_is_named_as_a_stock_server_names_it() {
    let point = URL_SAFE_NO_PAD
        .decode(
            "BFjBzT6nr1b99ufEAdpzTDdqWSANFRVqbTe_VQQdt-HftgCs1GItVXOHhHAx\
             Yg3M9cQmo9jgTkrH8gpxra8E9FE",
        )
        .unwrap();
    let key = PublicKey::new(Algorithm::Es256, &point);
    assert_eq!(key.id(), "KrIT2hmf1STyzeyJw2GmBgK4El5tDpP6nuecz1kyvZA");
}

#[test]
fn keys_of_every_form_are_read_and_named() {
    for (pem, id, algorithm) in [
        (RSA_PKCS1, RSA_ID, "RS256"),
        (RSA_PKCS8, RSA_ID, "RS256"),
        (RSA_PUBLIC, RSA_ID, "RS256"),
        (P384_SEC1, P384_ID, "ES384"),
        (P384_PKCS8, P384_ID, "ES384"),
        (P384_PUBLIC, P384_ID, "ES384"),
        (P256_SEC1, P256_ID, "ES256"),
        (P256_CERTIFICATE, P256_ID, "ES256"),
    ] {
        let keys = PublicKey::all_of(pem).unwrap();
        assert_eq!(keys.iter().map(|key| (key.id(), key.algorithm())).collect::<Vec<_>>(), [(id, algorithm)], "{pem}");
    }
    let all = [RSA_PUBLIC, P384_PUBLIC, P256_SEC1].concat();
    assert_eq!(PublicKey::all_of(&all).unwrap().len(), 3, "a file may have several");
    for bad in ["", "no key", P521_PUBLIC, "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
        assert!(matches!(PublicKey::all_of(bad), Err(TokenError::Key(_))), "{bad}");
    }
    assert!(SigningKey::from_pem(RSA_PUBLIC).is_err());
}

#[test]
fn what_a_key_signs_its_public_part_verifies_and_no_other() {
    let pems = [RSA_PKCS1, RSA_PKCS8, P384_SEC1, P384_PKCS8, P256_SEC1];
    for pem in pems {
        let key = SigningKey::from_pem(pem).unwrap();
        let (public, signature) = (key.public(), key.sign(b"text").unwrap());
        assert!(public.verifies(public.algorithm(), b"text", &signature));
        assert!(!public.verifies(public.algorithm(), b"other", &signature));
        assert!(!public.verifies("none", b"text", &signature), "by its own algorithm alone");
        for other in pems.map(|pem| SigningKey::from_pem(pem).unwrap().public()) {
            assert_eq!(other.verifies(public.algorithm(), b"text", &signature), other.id() == public.id());
        }
    }
}

#[test]
fn web_keys_have_the_numbers_of_their_keys() {
    let web_key = |pem: &str| PublicKey::all_of(pem).unwrap()[0].web_key();
    let rsa = web_key(RSA_PUBLIC);
    assert_eq!((&rsa["kty"], &rsa["e"], &rsa["alg"]), (&json!("RSA"), &json!("AQAB"), &json!("RS256")));
    assert_eq!(URL_SAFE_NO_PAD.decode(rsa["n"].as_str().unwrap()).unwrap().len(), 256, "without a sign");
    let p384 = web_key(P384_PUBLIC);
    let length = |name: &str| URL_SAFE_NO_PAD.decode(p384[name].as_str().unwrap()).unwrap().len();
    assert_eq!((&p384["crv"], length("x"), length("y")), (&json!("P-384"), 48, 48));
}

#[test]
fn nothing_that_is_cut_short_is_read_past_its_end() {
    let der = der(0x30, &[7; 300]);
    assert_eq!(element(0x30, &der).unwrap().0.len(), 300);
    for end in 0..der.len() {
        assert!(element(0x30, &der[..end]).is_none());
    }
    assert!(element(0x02, &der).is_none() && element(0x30, &[0x30, 0x85, 1, 1, 1, 1, 1]).is_none());
}
