//! A coordinator that answers over TLS, from elsewhere: what goes wrong is told apart.

use crate::place::{Place, Running, told};
use std::net::TcpListener;

/// A coordinator that is asked over TLS, its address, and its token file.
fn encrypted(place: &Place) -> (Running, String, String) {
    place.write("pools.toml", "[pools.local-spot]\nkind = \"local\"\nspot = true\ncapacity = 0\n");
    let running = place.start(&["up", "--pools", "pools.toml", "--tls", "always", "--output", "json"]);
    let address = running.first["address"].as_str().unwrap().strip_prefix("https://").unwrap().to_owned();
    let token = std::fs::read_to_string(place.path("home/token")).unwrap();
    (running, address, token)
}

#[test]
fn the_token_file_is_all_that_is_needed_elsewhere() {
    let there = Place::new();
    let (_running, address, token) = encrypted(&there);
    assert_eq!(there.run(&["ls"]).code, 0, "at home");
    let here = Place::new();
    here.write("token", &token);
    for coordinator in [format!("https://{address}"), address] {
        let ran = here.run(&["ls", "--coordinator", &coordinator, "--token-file", "token"]);
        assert_eq!(ran.code, 0, "{coordinator}: {}", ran.stderr);
    }
}

#[test]
fn what_keeps_a_caller_out_is_told_apart() {
    let (there, other) = (Place::new(), Place::new());
    let (_running, address, token) = encrypted(&there);
    let (_other, _, others) = encrypted(&other);
    let (secret, certificate) = token.split_once('\n').unwrap();
    let (_, others) = others.split_once('\n').unwrap();
    let plain = Place::new();
    let _plain = plain.coordinator();
    let in_the_clear = _plain.first["address"].as_str().unwrap().strip_prefix("http://").unwrap();
    let here = Place::new();
    here.write("alone", secret);
    here.write("whole", &token);
    here.write("wrong", &format!("{secret}\n{others}"));
    here.write("cut", &format!("{secret}\n{}", &certificate[..certificate.len() / 2]));
    here.write("spoilt", &format!("{secret}\n{}", certificate.replacen("MII", "!!!", 1)));
    for (name, url, token) in [
        ("no_certificate", format!("https://{address}"), "alone"),
        ("no_token_file", format!("https://{address}"), "nowhere"),
        ("another_certificate", format!("https://{address}"), "wrong"),
        ("certificate_cut", format!("https://{address}"), "cut"),
        ("certificate_spoilt", format!("https://{address}"), "spoilt"),
        ("in_the_clear_with_a_certificate", format!("http://{address}"), "whole"),
        ("in_the_clear_without", format!("http://{address}"), "alone"),
        ("tls_where_there_is_none", format!("https://{in_the_clear}"), "whole"),
    ] {
        insta::assert_snapshot!(name, told(&here.run(&["ls", "--coordinator", &url, "--token-file", token])));
    }
}

#[test]
fn pools_name_the_coordinator_as_it_answers() {
    let place = Place::new();
    let text =
        |scheme: &str| format!("[coordinator]\nurl = \"{scheme}://10.0.0.5:7070\"\n[pools.lab]\nkind = \"static\"\n");
    place.write("plain.toml", &text("http"));
    place.write("tls.toml", &text("https"));
    insta::assert_snapshot!("url_plain", told(&place.run(&["up", "--tls", "always", "--pools", "plain.toml"])));
    insta::assert_snapshot!("url_tls", told(&place.run(&["up", "--pools", "tls.toml"])));
}

#[test]
fn an_identity_that_is_none_is_not_replaced_unasked() {
    let place = Place::new();
    place.write("home/identity.pem", "half a fi");
    insta::assert_snapshot!(told(&place.run(&["up", "--tls", "always"])));
    place.write("home/identity.pem", &{
        let (_running, _, token) = encrypted(&Place::new());
        token
    });
    insta::assert_snapshot!("identity_without_a_key", told(&place.run(&["up", "--tls", "always"])));

    let identity = |place: &Place| {
        drop(encrypted(place));
        std::fs::read_to_string(place.path("home/identity.pem")).unwrap()
    };
    let (first, second) = (identity(&Place::new()), identity(&Place::new()));
    let key = "-----BEGIN PRIVATE KEY-----";
    let (certificate, other_key) = (first.split_once(key).unwrap().0, second.split_once(key).unwrap().1);
    place.write("home/identity.pem", &format!("{certificate}{key}{other_key}"));
    insta::assert_snapshot!("identity_with_another_key", told(&place.run(&["up", "--tls", "always"])));
}

#[test]
fn beyond_this_machine_calls_are_encrypted_unless_told_otherwise() {
    let place = Place::new();
    place.write("pools.toml", "[pools.local]\nkind = \"local\"\ncapacity = 0\n");
    let listen = || format!("0.0.0.0:{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
    let up = |more: &[&str]| {
        let listen = listen();
        let args = [&["up", "--pools", "pools.toml", "--listen", &listen, "--output", "json"], more].concat();
        place.start(&args)
    };
    let running = up(&[]);
    assert!(running.first["address"].as_str().unwrap().starts_with("https://0.0.0.0:"), "{}", running.first);
    assert_eq!(place.run(&["ls"]).code, 0);
    running.signal(rustix::process::Signal::INT);
    let ran = running.wait(&place);
    assert!(!ran.stderr.contains("not encrypted"), "{}", ran.stderr);

    let running = up(&["--tls", "never"]);
    assert!(running.first["address"].as_str().unwrap().starts_with("http://0.0.0.0:"), "{}", running.first);
    assert_eq!(place.run(&["ls"]).code, 0);
    assert!(!std::fs::read_to_string(place.path("home/token")).unwrap().contains("CERTIFICATE"));
    running.signal(rustix::process::Signal::INT);
    let ran = running.wait(&place);
    assert!(ran.stderr.contains("calls are not encrypted, as --tls never says"), "{}", ran.stderr);
}
