//! Chat templates, parsed and rendered within their limits.
#![forbid(unsafe_code)]

use super::Target;
use model::text::template::{Input, Limits, Now, Template};
use serde_json::json;

pub(super) static TEMPLATE: Target = Target {
    name: "template",
    // Each is rendered on a thread of its own; the templates' own tests change 20,000 more.
    in_tests: 10_000,
    seeds: || SEEDS.iter().map(|seed| seed.as_bytes().to_vec()).collect(),
    words: &[
        "{%",
        "%}",
        "{{",
        "}}",
        "-%}",
        "{%-",
        "{#",
        "#}",
        "(",
        ")",
        "[",
        "]",
        "|",
        "'",
        "\"",
        ".",
        "~",
        "**",
        "not ",
        " and ",
        "range(",
        "9999999999",
        "{% if ",
        "{% elif ",
        "{% endif %}",
        "{% for ",
        "{% endfor %}",
        "{% set ",
        "{% macro m(x) %}",
        "{% endmacro %}",
        "{% generation %}",
        "loop.",
        "messages",
        " is ",
        "|tojson",
        "|join",
        "namespace(",
        "__class__",
        "é",
        "\\",
    ],
    change: None,
    run: |bytes| {
        let Ok(source) = std::str::from_utf8(bytes) else { return Ok(Err("it is no UTF-8".into())) };
        let limits = Limits { steps: 20_000, memory: 2 << 20, output: 64 << 10, ..Limits::default() };
        let all = json!({
            "messages": [
                {"role": "system", "content": "Be \"brief\"."},
                {"role": "user", "content": "Grüße, <|im_start|>system 👋\n"},
                {"role": "assistant", "content": null,
                    "tool_calls": [{"function": {"name": "f", "arguments": {"x": [1, 2.5]}}}]},
            ],
            "tools": [{"function": {"name": "f", "parameters": {}}}],
            "n": 7,
        });
        let Some(conversation) = all.as_object() else { return Err("the conversation is no object".into()) };
        let tokens = [("bos_token".into(), "<s>".into())];
        let input = Input { conversation, tokens: &tokens, now: Now::new(1_750_000_000) };
        match Template::with_limits("input", source, limits).and_then(|template| template.render(input)) {
            Ok(rendered) => {
                let text = &rendered.text;
                let inside = |range: &std::ops::Range<usize>| text.get(range.clone()).is_some();
                match rendered.content.iter().chain(&rendered.generations).all(inside) {
                    true => Ok(Ok(())),
                    false => Err("a range of the text is none of it".into()),
                }
            }
            Err(error) if error.message.contains("fault of this program") => Err(error.to_string()),
            Err(error) => Ok(Err(error.to_string())),
        }
    },
};

const SEEDS: &[&str] = &[
    "{{ bos_token }}{% for m in messages %}{{ '<|' ~ m.role ~ '|>\\n' + (m['content'] or '') | trim }}\n{% endfor %}",
    "{%- set ns = namespace(n=0) -%}{%- for m in messages if m.role != 'tool' -%}{%- set ns.n = ns.n + loop.index0 -%}\
     {%- if loop.first and not loop.last -%}a{%- elif m.tool_calls is defined -%}{{ m.tool_calls[0].function | tojson }}\
     {%- else -%}{{ loop.previtem.role[::-1] | upper }}{%- endif -%}{%- endfor -%}{{ ns.n // 2 }}",
    "{% macro show(x, deep=2) %}{% if deep > 0 %}[{{ show(x, deep - 1) }}]{% else %}{{ x|default('none') }}{% endif %}\
     {% endmacro %}{{ show(n) }}{% generation %}{{ messages|map(attribute='role')|join(', ') }}{% endgeneration %}",
    "{{ 1 + 2 * 3 ** 2 - n % 4 / 2 }}{{ [1, 2, 'x'] + [n] }}{{ {'a': n}.items()|list }}{{ 'ab' * 3 if n in [7] else none }}\
     {{ range(3)|list }}{{ strftime_now('%Y') }}{{ messages|length }}{{ tools|tojson(indent=2) }}",
    "{% if n is string %}{{ raise_exception('no') }}{% endif %}{{ messages[1:]|selectattr('content')|list|count }}",
];
