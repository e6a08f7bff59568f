use super::*;
use crate::relay::jwks::KeySet;

const NOW: i64 = 1_790_000_000;
const CREDENTIALS: &str = r#""application_id":"11111111-2222-3333-4444-555555555555",
    "tenant_id":"66666666-7777-8888-9999-000000000000","client_secret":"not-a-real-secret""#;

fn verifier() -> Verifier {
    Verifier { secrets: vec![key(&"0123456789abcdef".repeat(4))], ..Verifier::default() }
}

fn key(text: &str) -> SigningKey {
    SigningKey::new(Secret::new(text)).unwrap()
}

fn token(header: &str, payload: &str) -> String {
    let signed = format!("{}.{}", BASE64.encode(header), BASE64.encode(payload));
    let mut mac = verifier().secrets[0].mac();
    mac.update(signed.as_bytes());
    format!("{signed}.{}", BASE64.encode(mac.finalize().into_bytes()))
}

fn check(token: &str) -> Result<Claims, AuthorizationError> {
    check_by(&verifier(), token, None)
}

fn check_by(
    verifier: &Verifier,
    token: &str,
    published: Option<&PublicKey>,
) -> Result<Claims, AuthorizationError> {
    let token = Unverified::parse(token)?;
    verifier.verify(&token, published, Timestamp::from_unix_seconds(NOW))
}

fn check_payload(payload: &str) -> Result<Claims, AuthorizationError> {
    check(&token(r#"{"alg":"HS256"}"#, payload))
}

/// Made with another implementation (jwt-generator).
const VECTOR: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.\
    eyJhcHBsaWNhdGlvbl9pZCI6IjExMTExMTExLTIyMjItMzMzMy00NDQ0LTU1NTU1NTU1NTU1NSIsInRlbmFudF9p\
    ZCI6IjY2NjY2NjY2LTc3NzctODg4OC05OTk5LTAwMDAwMDAwMDAwMCIsImNsaWVudF9zZWNyZXQiOiJub3QtYS1y\
    ZWFsLXNlY3JldCJ9.Kn8L0RMeozcgfWKdm03faAEPYc3lBiNmfs9X1q2tINg";

#[test]
fn accepts_what_another_implementation_signed_and_signs_the_same() {
    let claims = check(VECTOR).unwrap();
    let credentials = claims.credentials();
    assert_eq!(credentials.application, "11111111-2222-3333-4444-555555555555");
    assert_eq!(credentials.tenant.as_str(), "66666666-7777-8888-9999-000000000000");
    assert_eq!(credentials.secret, ClientSecret::new("not-a-real-secret"));
    let signed = sign(credentials, None, None, &verifier().secrets[0]);
    assert_eq!(signed.expose(), VECTOR);
}

#[test]
fn refuses_every_token_with_one_bit_changed() {
    let whole = VECTOR.as_bytes();
    for at in 0..whole.len() {
        for bit in 0..7 {
            let mut changed = whole.to_vec();
            changed[at] ^= 1 << bit;
            // The last character holds two bits that mean nothing.
            let padding = at == whole.len() - 1
                && BASE64.decode(&changed[whole.len() - 43..]).ok()
                    == BASE64.decode(&whole[whole.len() - 43..]).ok();
            let text = String::from_utf8(changed).unwrap();
            assert!(check(&text).is_err() || padding, "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn every_refusal_has_its_name() {
    use AuthorizationError::*;
    let good = format!("{{{CREDENTIALS}}}");
    let other_key = {
        let (signed, _) = VECTOR.rsplit_once('.').unwrap();
        format!("{signed}.{}", BASE64.encode([0; 32]))
    };
    const WRONG_ALGORITHM: AuthorizationError = WrongAlgorithm { expected: "HS256 is expected" };
    let long = "x".repeat(limits::TOKEN + 1);
    let rows = [
        // Structure.
        (String::new(), WrongStructure),
        ("a.b".to_owned(), WrongStructure),
        ("a.b.c.d".to_owned(), WrongStructure),
        ("!.!.!".to_owned(), WrongStructure),
        (long, WrongStructure),
        (token("[]", &good), WrongStructure),
        (token(r#"{"alg":"HS256"}"#, "[]"), WrongStructure),
        (token(r#"{"alg":7}"#, &good), WrongStructure),
        // The algorithm is ours to choose, whatever the token says.
        (token(r#"{"alg":"none"}"#, &good), WRONG_ALGORITHM),
        (token(r#"{"alg":"hs256"}"#, &good), WRONG_ALGORITHM),
        (token(r#"{"alg":"HS512"}"#, &good), WRONG_ALGORITHM),
        (token(r#"{"alg":"RS256"}"#, &good), WRONG_ALGORITHM),
        (token(r#"{"alg":"HS256","crit":["b64"]}"#, &good), WRONG_ALGORITHM),
        // The signature, complete or cut.
        (other_key, WrongSignature),
        (VECTOR[..VECTOR.len() - 3].to_owned(), WrongSignature),
        (format!("{}.", VECTOR.rsplit_once('.').unwrap().0), WrongSignature),
    ];
    for (token, expected) in rows {
        assert_eq!(check(&token).unwrap_err(), expected, "{token}");
    }
}

#[test]
fn times_are_honoured_with_a_minute_of_leeway() {
    let rows = [
        (format!(r#""exp":{}"#, NOW - 59), None),
        (format!(r#""exp":{}"#, NOW - 60), Some("Expired")),
        (format!(r#""exp":{}.5"#, NOW - 61), Some("Expired")),
        (r#""exp":1"#.to_owned(), Some("Expired")),
        (r#""exp":1e300"#.to_owned(), Some("WrongPayload")),
        (r#""exp":"tomorrow""#.to_owned(), Some("WrongPayload")),
        (r#""exp":"4102444800""#.to_owned(), Some("WrongPayload")),
        (r#""exp":null"#.to_owned(), None),
        (format!(r#""nbf":{}"#, NOW + 60), None),
        (format!(r#""nbf":{}"#, NOW + 61), Some("NotYetValid")),
        (r#""nbf":[]"#.to_owned(), Some("WrongPayload")),
    ];
    for (claim, expected) in rows {
        let error = check_payload(&format!("{{{CREDENTIALS},{claim}}}")).err();
        let name = error.map(|error| format!("{error:?}"));
        assert_eq!(name.is_some(), expected.is_some(), "{claim}");
        assert!(name.unwrap_or_default().starts_with(expected.unwrap_or_default()), "{claim}");
    }
}

#[test]
fn a_configured_audience_has_to_be_named() {
    let verifier = Verifier { audience: Some("https://relay.example".to_owned()), ..verifier() };
    let rows = [
        (r#""aud":"https://relay.example""#, true),
        (r#""aud":"https://relay.example/""#, true),
        (r#""aud":["x","https://relay.example"]"#, true),
        (r#""aud":"https://relay.example.evil.example""#, false),
        (r#""aud":[]"#, false),
        (r#""aud":7"#, false),
        (r#""iss":"IROH Auth""#, false),
    ];
    for (claim, accepted) in rows {
        let token = token(r#"{"alg":"HS256"}"#, &format!("{{{CREDENTIALS},{claim}}}"));
        let result = check_by(&verifier, &token, None);
        let expected = (!accepted).then_some(AuthorizationError::WrongAudience);
        assert_eq!(result.err(), expected, "{claim}");
    }
    // Without a configured audience, the claim is ignored.
    assert!(check_payload(&format!(r#"{{{CREDENTIALS},"aud":7}}"#)).is_ok());
}

#[test]
fn all_three_credentials_are_needed() {
    let rows = [
        (r#"{}"#, "tenant_id"),
        (r#"{"tenant_id":"a.com","client_secret":"s"}"#, "application_id"),
        (r#"{"tenant_id":"a.com","application_id":"a"}"#, "client_secret"),
        (r#"{"tenant_id":"a.com","application_id":"a","client_secret":" "}"#, "client_secret"),
        (r#"{"tenant_id":7,"application_id":"a","client_secret":"s"}"#, "tenant_id"),
    ];
    for (payload, claim) in rows {
        let expected = AuthorizationError::WrongPayload { claim };
        assert_eq!(check_payload(payload).unwrap_err(), expected);
    }
    let evil = r#"{"tenant_id":"../../evil","application_id":"a","client_secret":"s"}"#;
    assert_eq!(check_payload(evil).unwrap_err(), AuthorizationError::WrongTenant);
}

#[test]
fn the_limit_is_a_positive_number_or_the_default() {
    let rows = [
        ("5", Some(5)),
        (r#""5""#, Some(5)),
        (r#"" 50 ""#, Some(50)),
        ("1000000", Some(limits::ENTITIES_MAX)),
        ("0", None),
        ("-1", None),
        ("2.5", None),
        ("null", None),
        (r#""many""#, None),
        ("[]", None),
    ];
    for (value, expected) in rows {
        let payload = format!(r#"{{{CREDENTIALS},"CTR_ENTITIES_LIMIT":{value}}}"#);
        assert_eq!(check_payload(&payload).unwrap().entities_limit(), expected, "{value}");
    }
}

#[test]
fn the_header_is_bearer_and_one_token() {
    use AuthorizationError::*;
    let rows = [
        (None, Err(HeaderMissing)),
        (Some("Bearer abc"), Ok("abc")),
        (Some("bearer  abc "), Ok("abc")),
        (Some("Bearer"), Err(WrongType)),
        (Some(""), Err(WrongType)),
        (Some("Basic abc"), Err(WrongType)),
        (Some("Bearer a b"), Err(WrongType)),
        (Some("\tBearer\t abc\t"), Ok("abc")),
        // Rust does not count a vertical tab as ASCII white space.
        (Some("Bearer a\x0Bb"), Ok("a\x0Bb")),
        (Some("Bearer a\tb"), Err(WrongType)),
        (Some("abc"), Err(WrongType)),
    ];
    for (header, expected) in rows {
        assert_eq!(bearer(header), expected);
    }
}

#[test]
fn a_token_may_be_as_long_as_the_bound() {
    let fixed = token(r#"{"alg":"HS256"}"#, &format!("{{{CREDENTIALS},\"x\":\"\"}}")).len();
    let with = |length: usize| {
        let payload = format!("{{{CREDENTIALS},\"x\":\"{}\"}}", "x".repeat(length));
        token(r#"{"alg":"HS256"}"#, &payload)
    };
    // Three bytes are four characters.
    let mut length = (limits::TOKEN - fixed) / 4 * 3;
    while with(length + 1).len() <= limits::TOKEN {
        length += 1;
    }
    assert_eq!(with(length).len(), limits::TOKEN);
    assert!(check(&with(length)).is_ok());
    let error = check(&with(length + 1)).unwrap_err();
    assert_eq!(error, AuthorizationError::WrongStructure);
}

#[test]
fn any_of_several_secrets_may_have_signed() {
    let (old, new) = (key(&"o".repeat(32)), key(&"n".repeat(32)));
    let credentials = check(VECTOR).unwrap().credentials().clone();
    let both = Verifier { secrets: vec![new.clone(), old.clone()], ..Verifier::default() };
    for by in [&old, &new] {
        let token = sign(&credentials, None, None, by);
        assert_eq!(check_by(&both, token.expose(), None).unwrap().credentials(), &credentials);
        let error = check(token.expose()).unwrap_err();
        assert_eq!(error, AuthorizationError::WrongSignature);
    }
}

#[test]
fn only_named_tenants_are_served() {
    let tenant = |name| TenantId::parse(name).unwrap();
    let only = |name| Verifier { tenants: vec![tenant("a.com"), tenant(name)], ..verifier() };
    assert!(check_by(&only("66666666-7777-8888-9999-000000000000"), VECTOR, None).is_ok());
    let error = check_by(&only("contoso.com"), VECTOR, None).unwrap_err();
    assert_eq!(error, AuthorizationError::TenantNotServed);
}

/// Made with openssl.
const PUBLISHED: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6IjAyQjExNzQyMzRDMjlGOEVGQjY5OTExNDM4RjU5N0ZGM0ZGRUU2QjciLCJ0\
    eXAiOiJKV1QifQ.eyJhcHBsaWNhdGlvbl9pZCI6IjExMTExMTExLTIyMjItMzMzMy00NDQ0LTU1NTU1NTU1NTU1N\
    SIsInRlbmFudF9pZCI6IjY2NjY2NjY2LTc3NzctODg4OC05OTk5LTAwMDAwMDAwMDAwMCIsImNsaWVudF9zZWNyZ\
    XQiOiJub3QtYS1yZWFsLXNlY3JldCIsImp3a3NfaG9zdCI6InZpc2liaWxpdHkuYW1wLmNpc2NvLmNvbSIsImF1Z\
    CI6Imh0dHBzOi8vcmVsYXkuZXhhbXBsZSJ9.L2ljtgXH7hX0X1KqgGaqA6l58CvUGSwE-ImRbpmfRNhA833c757s\
    28xewNgFoUf9YPhru9Jz00bMPDcjUsc5zEolWgxChJ1fekD5j1xJ0lvwgnDYVzfLvMI6P2nOsaNs3AlWtKizK0Bq\
    J7yTU8vvzCCNXPuFdWj0Y1jEcHUs5MLl9snlAqvY9FCnq4XIwX1WtaJFQ4WPoXz74Q4P7C3l_RBS1ucuF4hz4neJ\
    WT7JiE5aQZjhVsn6MF-0dUBMB5004LnKrrPSoj73hW-rTr0lOLBwjdhzvapQQ8_Td6Oae3iV1vyBfCzluwFVePfp\
    5XKEfxMa0lfthtfSWrnJyh6bhg";
const MODULUS: &str = "52UYr-ynlaUlhkMRxWHtQFXcvw-lo2NXed-14SHQossR-9qDF1q65dvBcKMG8bxMJ_o8-GavIHECT3RrF9kxggWr\
    TyUuYfV3NaCwh94SfPqsyYFiL5lKmu5HfhOP-vV_wXIXQhuWdwbhkhVAyaD5fIIzRXl35CCC2GHOMKTboemjaiFT\
    mM2mVbAZ2eF5ipsUx6E3WfagK0RgKlWYllaysSVzqp3BvqOJY8ksYrSOL3Z75jkYT7UdOOck1KOf65bC48UqEg9N\
    P-_k2HP-2FeNRHA6FiGbayvCxYuEc_OCEWpJEZMc4J9Xfziy7w0Lk0kykoFw9eMHVFBNLD057wqTcw";

fn published() -> Verifier {
    let hosts = ["https://visibility.eu.amp.cisco.com", "https://visibility.amp.cisco.com"];
    let hosts = hosts.map(|host| BaseUrl::parse(host).unwrap()).to_vec();
    Verifier { hosts, ..Verifier::default() }
}

fn public_key() -> PublicKey {
    let document = serde_json::json!({"keys": [
        {"kty": "RSA", "kid": "02B1174234C29F8EFB69911438F597FF3FFEE6B7", "n": MODULUS, "e": "AQAB"}
    ]});
    let keys = KeySet::parse(document.to_string().as_bytes()).unwrap();
    let token = Unverified::parse(PUBLISHED).unwrap();
    let wanted = published().wanted(&token).unwrap().unwrap();
    assert_eq!(wanted.host, 1);
    keys.get(&wanted.kid).unwrap().clone()
}

#[test]
fn a_published_key_verifies_what_another_implementation_signed() {
    let key = public_key();
    let claims = check_by(&published(), PUBLISHED, Some(&key)).unwrap();
    assert_eq!(claims.credentials(), check(VECTOR).unwrap().credentials());
    let wrong = AuthorizationError::WrongPublishedSignature;
    let (signed, signature) = PUBLISHED.rsplit_once('.').unwrap();
    for changed in [
        PUBLISHED.replacen("LCJ0", "LCK0", 1),
        format!("{signed}.{}", &signature[..signature.len() - 4]),
        format!("{signed}.{}", signature.replace(&signature[..4], "AAAA")),
        format!("{signed}."),
    ] {
        let error = check_by(&published(), &changed, Some(&key)).unwrap_err();
        assert!(error == wrong || error == AuthorizationError::WrongStructure, "{changed}");
    }
    let unknown = check_by(&published(), PUBLISHED, None).unwrap_err();
    assert_eq!(unknown, AuthorizationError::UnknownKey);
}

#[test]
fn the_way_is_configured_and_never_the_tokens_choice() {
    let key = public_key();
    let both = Verifier { secrets: verifier().secrets, ..published() };
    // Algorithm confusion: HS256 with the public key as the secret.
    let confused = {
        let public = SigningKey::new(Secret::new(MODULUS)).unwrap();
        let credentials = check(VECTOR).unwrap().credentials().clone();
        sign(&credentials, None, None, &public).expose().to_owned()
    };
    let as_rs256 = token(r#"{"alg":"RS256","kid":"k"}"#, &format!("{{{CREDENTIALS}}}"));
    let rows = [
        (&verifier(), VECTOR, true),
        (&verifier(), PUBLISHED, false),
        (&published(), PUBLISHED, true),
        (&published(), VECTOR, false),
        (&both, VECTOR, true),
        (&both, PUBLISHED, true),
        (&both, &confused, false),
        (&both, &as_rs256, false),
        (&published(), &confused, false),
    ];
    for (verifier, token, accepted) in rows {
        let result = check_by(verifier, token, Some(&key));
        assert_eq!(result.is_ok(), accepted, "{token}");
    }
    // Nor is one whose extensions are not understood.
    let critical = token(r#"{"alg":"RS256","kid":"k","crit":["b64"]}"#, "{}");
    for token in [VECTOR, &critical] {
        let error = check_by(&published(), token, Some(&key)).unwrap_err();
        assert_eq!(error, AuthorizationError::WrongAlgorithm { expected: "RS256 is expected" });
    }
}

#[test]
fn a_token_selects_a_host_of_the_list_and_nothing_else() {
    use AuthorizationError::*;
    let wanted = |host: &str, kid: &str| {
        let token = token(
            &format!(r#"{{"alg":"RS256","kid":{kid}}}"#),
            &format!(r#"{{"jwks_host":{host}}}"#),
        );
        let token = Unverified::parse(&token).unwrap();
        published().wanted(&token).map(|wanted| wanted.unwrap().host)
    };
    let rows = [
        (r#""visibility.amp.cisco.com""#, Ok(1)),
        (r#"" Visibility.EU.amp.cisco.com ""#, Ok(0)),
        ("null", Err(HostMissing)),
        ("7", Err(HostMissing)),
        (r#""""#, Err(WrongHost)),
        (r#""evil.example""#, Err(WrongHost)),
        (r#""visibility.amp.cisco.com.evil.example""#, Err(WrongHost)),
        (r#""visibility.amp.cisco.com@evil.example""#, Err(WrongHost)),
        (r#""visibility.amp.cisco.com:444""#, Err(WrongHost)),
        (r#""visibility.amp.cisco.com/x?y=""#, Err(WrongHost)),
        (r#""https://visibility.amp.cisco.com""#, Err(WrongHost)),
        (r#""169.254.169.254/latest/meta-data?x=""#, Err(WrongHost)),
    ];
    for (host, expected) in rows {
        assert_eq!(wanted(host, r#""k""#), expected, "{host}");
    }
    for kid in ["null", "7", r#""""#] {
        assert_eq!(wanted(r#""visibility.amp.cisco.com""#, kid), Err(UnknownKey), "{kid}");
    }
}

#[test]
fn a_short_key_is_no_key() {
    assert!(SigningKey::new(Secret::new("x".repeat(31))).is_none());
    assert!(SigningKey::new(Secret::new("")).is_none());
}
