//! The limits on chat templates: steps, text, length and depth.

use super::tests::{messages, render};
use super::*;
use serde_json::json;

/// Templates that would run forever or fill the memory.
#[test]
fn a_template_has_a_budget_of_steps_and_of_text() {
    let loops = "{% for a in range(100000) %}{% for b in range(100000) %}{% for c in range(100000) %}{% endfor %}{% endfor %}{% endfor %}";
    let grow = |what: &str| {
        format!(
            "{{% set ns = namespace(s='ab', l=[1]) %}}{{% for i in range(60) %}}{what}{{% endfor %}}{{{{ ns.s }}}}{{{{ ns.l }}}}"
        )
    };
    let sources = [
        loops.to_string(),
        grow("{% set ns.s = ns.s ~ ns.s %}"),
        grow("{% set ns.s = ns.s + ns.s %}"),
        grow("{% set ns.s = ns.s * 2 %}"),
        grow("{% set ns.s = ns.s | replace('a', ns.s) %}"),
        grow("{% set ns.s = ns.s.replace('a', ns.s) %}"),
        grow("{% set ns.s = [ns.s, ns.s] | join('') %}"),
        grow("{% set ns.s = ns.s.join([ns.s, ns.s]) %}"),
        grow("{% set ns.s = '%s%s' | format(ns.s, ns.s) %}"),
        grow("{% set ns.s = '{0}{0}'.format(ns.s) %}"),
        grow("{% set ns.s %}{{ ns.s }}{{ ns.s }}{% endset %}"),
        grow("{% set ns.l = ns.l + ns.l %}"),
        grow("{% set ns.l = ns.l * 2 %}"),
        grow("{% set ns.l = [ns.l, ns.l] %}"),
        grow("{% set ns.l = (ns.l, ns.l) %}"),
        grow("{% set ns.l = {'a': ns.l, 'b': ns.l} %}"),
        format!("{{% for a in range(100000) %}}{{% for b in range(100000) %}}{}{{% endfor %}}{{% endfor %}}", "raw ".repeat(3000)),
        format!("{{% set x %}}{{% for a in range(100000) %}}{}{{% endfor %}}{{% endset %}}", "raw ".repeat(3000)),
        "{% set s = 'ab' * 30000000 %}{% for a in range(100000) %}{% if 'c' in s %}{% endif %}{% endfor %}".into(),
        "{% set s = 'ab' * 30000000 %}{% for a in range(100000) %}{% set x = s[1:] %}{% endfor %}".into(),
        "{% set s = 'ab' * 30000000 %}{% for a in range(100000) %}{{ s | length }}{% endfor %}".into(),
        "{% macro f(s, n) %}{% if n %}{{ f(s ~ s, n - 1) }}{% endif %}{% endmacro %}{{ f('ab', 60) }}".into(),
        "{{ '%999999999d' | format(1) }}".into(),
        "{{ '{:999999999}'.format(1) }}".into(),
        "{{ 'a' | indent(999999999999, true) }}".into(),
        "{{ [1] | batch(999999999999, 'x') }}".into(),
        "{{ messages | tojson(indent=999999999999) }}".into(),
        "{{ '' | tojson(indent=999999999999) }}".into(),
        "{{ (range(200) | list | tojson(indent=65535))[:5] }}".into(),
        "{{ ('\n' * 16777216) | indent(1099511627776) }}".into(),
        "{% for i in range(100000) %}{{ messages | tojson }}{{ 'a' * 10000 }}{% endfor %}".into(),
    ];
    for source in sources {
        let error = render(&source, messages()).unwrap_err();
        assert!(
            error.contains("10000000 steps and make 128 MiB of text")
                && error.contains("m/chat_template.jinja"),
            "{source}: {error}"
        );
    }
    // A value that contains itself, includes, and a macro that calls itself.
    for source in [
        "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}",
        "{% include 'chat_template' %}",
        "{% include '/etc/passwd' %}",
        "{% import '/etc/passwd' as x %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ [*messages, *messages] }}",
    ] {
        let error = ChatTemplate::new(source, "m", Map::new())
            .and_then(|template| template.render(&messages(), &Map::new(), false));
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("the chat template (m)")
        );
    }
    // What templates do to lists, maps and numbers is unchanged.
    for (source, expected) in [
        (
            "{{ ([1] + [2, 'a'])[2] ~ 1.5 ~ none ~ true }}",
            "a1.5NoneTrue",
        ),
        (
            "{{ {'a': 1, 'b': [2]}['b'][0] + 1 }} {{ 1.5 + 1 }} {{ 3 * 4 }} {{ 'ab' * 2 }}",
            "3 2.5 12 abab",
        ),
        (
            "{{ [1, 2] | join('-') }} {{ 'a,b'.split(',') | list | length }} {{ 'a b' | replace(' ', '_') }}",
            "1-2 2 a_b",
        ),
        (
            "{{ '%s!' | format('x') }} {{ 'a\nb' | indent(2) }} {{ ([3, 1] | sort)[0] }}",
            "x! a\n  b 1",
        ),
        (
            "{{ 'b' in 'abc' }} {{ 3 not in [1, 2] }} {{ [1, 2, 3][1:] }} {{ 'abc'[::-1] }} {{ 1 == 1.0 }} {{ 'a' != 'b' }} {{ nothing == none }}",
            "True True [2, 3] cba True True False",
        ),
        (
            "{% if false %}x{% elif true %}a{% macro f(y) %}<{{ y }}>{% endmacro %}b{{ f(1) }}c{% else %}z{% endif %}{{ 'n' if false else 'y' }}{{ false or 'o' }}{{ true and 'k' }}",
            "ab<1>cyok",
        ),
        ("{% for a, b in [(1, 2)] %}{{ a }}{{ b }}{% endfor %}", "12"),
    ] {
        assert_eq!(render(source, messages()).unwrap(), expected, "{source}");
    }
}

/// A text of many times what the chat says would cost the tokenizer many times as much.
#[test]
fn a_short_chat_makes_no_long_text() {
    let error = render("{{ ' ' * 300000 }}", messages()).unwrap_err();
    assert!(error.to_string().contains("300000"), "{error}");
    assert!(render("{{ ' ' * 200000 }}", messages()).is_ok());
}

/// A chat of a thousand long messages is far below the limits, even if a template collects them.
#[test]
fn a_long_chat_is_within_the_budget() {
    let message = |i: usize| {
        let role = ["user", "assistant"][i % 2];
        json!({"role": role, "content": format!("{i} {}", "word ".repeat(100))})
    };
    let messages: Vec<Value> = (0..300).map(message).collect();
    let gather = "{% set ns = namespace(s='') %}{% for m in messages %}{% set ns.s = ns.s ~ '<' + m['role'] + '>' ~ m['content'] | trim %}{% endfor %}{{ ns.s }}";
    assert!(render(gather, messages).unwrap().len() > 150_000);
}

#[test]
fn a_text_too_long_to_be_tokenised_is_an_error() {
    let long = || vec![json!({"role": "user", "content": "x".repeat(1_200_000)})];
    let error = render("{{ 'x' * 9000000 }}", long()).unwrap_err();
    assert!(
        error.contains("9000000 bytes of text of one chat, and at most 8388608"),
        "{error}"
    );
    assert_eq!(
        render("{{ 'x' * 8000000 }}", long()).unwrap().len(),
        8_000_000
    );
}

#[test]
fn a_template_too_long_or_too_deep_is_an_error() {
    let sources = |count: usize| {
        let elif = "{% elif x %}a".repeat(count);
        [
            format!("{{{{ 1{} }}}}", "+1".repeat(count)),
            format!("{{{{ 1{} }}}}", "~'a'".repeat(count)),
            format!("{{{{ 'a'{} }}}}", "|upper".repeat(count)),
            format!("{{{{ x{} is defined }}}}", "[0]".repeat(count)),
            format!("{{{{ {}1 }}}}", "not ".repeat(count)),
            format!("{{{{ {}1 }}}}", "-".repeat(count)),
            format!("{{{{ 1{} }}}}", " and 1".repeat(count)),
            format!("{{{{ 1{} }}}}", " if 1 else 1".repeat(count / 2)),
            format!("{{% if x %}}{elif}{{% endif %}}"),
        ]
    };
    // Half of a thread's stack.
    let small = std::thread::Builder::new().stack_size(1 << 20);
    let all = small.spawn(move || {
        for source in sources(190) {
            // Some are rejected as too deeply nested; none overflows the stack.
            let compiled = ChatTemplate::new(&source, "m", Map::new());
            let _ = compiled.map(|t| t.render(&messages(), &Map::new(), false));
        }
        for count in [1200, 10_000, 200_000] {
            for source in sources(count) {
                let error = ChatTemplate::new(&source, "m", Map::new())
                    .unwrap_err()
                    .to_string();
                let is_told = ["operators in one tag", "elif", "bytes"];
                assert!(is_told.iter().any(|t| error.contains(t)), "{error}");
            }
        }
    });
    all.unwrap().join().unwrap();
}
