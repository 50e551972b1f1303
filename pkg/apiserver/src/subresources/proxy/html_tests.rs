//! Pages come out the same in whatever pieces they come in.
#![allow(clippy::unwrap_used)]

use super::*;

fn links() -> Links {
    Links { prefix: "/p/proxy".into(), backend: "10.0.0.1:80".into(), requested: "localhost:8001".into() }
}

fn rewritten(page: &str, piece: usize) -> String {
    let (mut reader, mut out) = (Page::new(links()), Vec::new());
    for piece in page.as_bytes().chunks(piece) {
        reader.feed(piece, &mut out);
    }
    reader.finish(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn links_of_all_kinds_are_found() {
    for (page, expected) in [
        (r#"<a href="/x">x</a>"#, r#"<a href="/p/proxy/x">x</a>"#),
        ("<A HREF='/x'>", "<A HREF='/p/proxy/x'>"),
        ("<img src=/x alt=y>", "<img src=\"/p/proxy/x\" alt=y>"),
        ("<img\n src = \"/x?a=1&amp;b=2\"/>", "<img\n src = \"/p/proxy/x?a=1&amp;b=2\"/>"),
        ("<form action='http://10.0.0.1:80/x'>", "<form action='/p/proxy/x'>"),
        (
            "<script src=/a.js>s='<a href=\"/x\">'</script ><a href=/b>",
            "<script src=\"/p/proxy/a.js\">s='<a href=\"/x\">'</script ><a href=\"/p/proxy/b\">",
        ),
        ("<a href=/x>1 < 2 <b><a href=/y>", "<a href=\"/p/proxy/x\">1 < 2 <b><a href=\"/p/proxy/y\">"),
        ("<a title='a>b' href='/x'>", "<a title='a>b' href='/p/proxy/x'>"),
        ("<!-- <a href=/x> --><a href=/y>", "<!-- <a href=/x> --><a href=\"/p/proxy/y\">"),
        ("<video poster=/p src=/v>", "<video poster=\"/p/proxy/p\" src=\"/p/proxy/v\">"),
        ("\u{1f980}<a href='/\u{1f980}'>", "\u{1f980}<a href='/p/proxy/\u{1f980}'>"),
    ] {
        for piece in [1, 2, 3, 7, 1_000] {
            assert_eq!(rewritten(page, piece), expected, "in pieces of {piece}");
        }
    }
}

#[test]
fn everything_else_stays_as_it_is() {
    for page in [
        "",
        "<",
        "<a",
        "<a href=",
        "<a href='/x",
        "a < b",
        "<p href='/x'>",
        "<a data-href='/x'>",
        "<!doctype html>",
        "<?x?>",
        "</a href='/x'>",
        "<a href=x>",
        "<a href='https://example.com/x'>",
        "<!-",
        "<!--",
        "<style>a{b:url('/x')}</style>",
        "<textarea><a href='/x'></textarea",
        "<a =href='/x'>",
        "<a href>",
        "<title></titl",
        "<a/href/>",
    ] {
        for piece in [1, 3, 1_000] {
            assert_eq!(rewritten(page, piece), page, "in pieces of {piece}");
        }
    }
}

/// A page that never ends its first tag must not be kept back whole.
#[test]
fn what_is_kept_back_is_bounded() {
    let (mut reader, mut out) = (Page::new(links()), Vec::new());
    let piece = vec![b'x'; 10_000];
    reader.feed(b"<a href='", &mut out);
    for _ in 0..100 {
        reader.feed(&piece, &mut out);
        assert!(reader.kept.len() <= MAX_TAG + piece.len());
    }
    reader.feed(b"'><a href=/y>", &mut out);
    reader.finish(&mut out);
    assert!(out.ends_with(b"'><a href=\"/p/proxy/y\">"));
    assert_eq!(out.len(), 9 + 1_000_000 + 2 + 21);
}
