//! Small templates with the texts that Jinja2 3.1.6 renders from them, through transformers 5.23's
//! `apply_chat_template`, written by `benches/templates/run --fixture` (its expressions.py).

use super::tests::{messages, render};
use super::*;
use serde_json::json;

#[test]
fn values_operators_and_filters_are_jinja2s() {
    let fixture: Value = serde_json::from_str(include_str!("jinja2.json")).unwrap();
    let map = |key: &str| fixture[key].as_object().cloned().unwrap();
    let messages = fixture["messages"].as_array().unwrap();
    let expected = fixture["expected"].as_array().unwrap();
    assert!(expected.len() > 150);
    for pair in expected {
        let source = pair[0].as_str().unwrap();
        let found = ChatTemplate::new(source, "m", map("special_tokens"))
            .and_then(|template| template.render(messages, &map("names"), false));
        // `None`: Jinja2 raises an exception.
        match (pair[1].as_str(), found) {
            (Some(text), Ok(found)) => assert_eq!(found, text, "{source}"),
            (None, Err(_)) => {}
            (wanted, found) => panic!("{source}: {found:?}, and Jinja2 has {wanted:?}"),
        }
    }
}

/// A feature that Jinja2 has and minijinja lacks is an error with its line.
#[test]
fn what_cannot_be_rendered_is_an_error_with_its_line() {
    for what in [
        "{{ 'a' | center(5) }}",
        "{{ {'a': 1} | xmlattr }}",
        "{{ joiner(',') }}",
        "{{ raise_exception('no') }}",
        "{{ messages | nope }}",
        "{% block b %}x{% endblock %}",
        "{% autoescape true %}{% endautoescape %}",
        "{% if %}",
        "{% for x in none %}{% endfor %}",
    ] {
        let source = format!("a\n{{% if true %}}\n{what}\n{{% endif %}}\n");
        let found = ChatTemplate::new(&source, "m", Map::new())
            .and_then(|template| template.render(&messages(), &Map::new(), false));
        let error = found.unwrap_err().to_string();
        let says = ["chat_template:3)", "in line 3"];
        assert!(says.iter().any(|line| error.contains(line)), "{error}");
    }
}

/// A variable set within `{% generation %}` is local to it, as in Jinja2.
#[test]
fn generation_is_a_scope_of_its_own() {
    let source = "{% generation %}{% set a = 1 %}{{ a }}{% endgeneration %}{{ a is defined }}";
    assert_eq!(render(source, messages()).unwrap(), "1False");
}

/// Messages reach a template in the form in which transformers 5 passes them.
#[test]
fn none_is_left_out_and_reasoning_has_all_its_names() {
    let message = |extra: Value| {
        let mut message = json!({"role": "assistant", "content": null, "name": null});
        let keys = extra.as_object().cloned().unwrap();
        message.as_object_mut().unwrap().extend(keys);
        vec![message]
    };
    let source = "{{ messages[0] | tojson }}";
    let text = render(source, message(json!({"thinking": "a"}))).unwrap();
    let wanted = r#"{"thinking": "a", "role": "assistant", "reasoning_content": "a"}"#;
    assert_eq!(text, wanted);
    let text = render(source, message(json!({"reasoning": "a", "thinking": null}))).unwrap();
    let wanted =
        r#"{"thinking": "a", "role": "assistant", "reasoning": "a", "reasoning_content": "a"}"#;
    assert_eq!(text, wanted);
    let text = render("{{ tools is none }}{{ documents is none }}", messages());
    assert_eq!(text.unwrap(), "TrueTrue");
}
