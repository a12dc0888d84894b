//! Templates that are wrong, hostile or too much: what must come of each.

/// What must come of a template.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// It renders.
    Text,
    /// The template isn't Jinja.
    Syntax,
    /// It refuses the conversation itself.
    Raised,
    /// It uses what isn't there.
    Undefined,
    /// It does what can't be done.
    Value,
    /// It reaches for what it may not have.
    Refused,
    /// It asks for too much.
    Limit,
}

/// A case's name, its template, what must come of it, and a part of the message.
pub fn cases() -> Vec<(String, String, Outcome, &'static str)> {
    let mut all = Vec::new();
    let mut add = |id: &str, template: String, outcome, said| all.push((id.to_string(), template, outcome, said));
    for (template, said) in [
        ("{{ 1 +\n", "no end `}}`"),
        ("{{ 1 + }}", "expected an expression"),
        ("a\nb {% if x %}", "endif"),
        ("{% for x in y %}\n{% endif %}", "tag `endif`"),
        ("{{ 'open }}", "no end"),
        ("{{ a b }}", "expected `}}`"),
        ("{% nosuch %}", "no tag `nosuch`"),
        ("{# open", "no end"),
        ("{% raw %}", "endraw"),
        ("{{ ) }}", "opened"),
        ("{{ 99999999999999999999999999999999999999999 }}", "can't be read"),
        ("{{ '\\ud800' }}", "no character"),
    ] {
        add("JJ01", template.into(), Outcome::Syntax, said);
    }
    deep(&mut add);
    chains(&mut add);
    add("JJ06", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}".into(), Outcome::Limit, "deep");
    add("JJ06", "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{% if true %}{% for i in [1] %}{{ a() ~ a() }}{% endfor %}{% endif %}{% endmacro %}{{ a() }}".into(), Outcome::Limit, "deep");
    add("JJ06", "{% macro m(x) %}{{ m([x, x]) }}{% endmacro %}{{ m(1) }}".into(), Outcome::Limit, "deep");
    add(
        "JJ06",
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}".into(),
        Outcome::Limit,
        "steps",
    );
    add(
        "JJ06",
        "{% macro m() %}{{ caller() }}{% call m() %}{% endcall %}{% endmacro %}{% call m() %}x{% endcall %}".into(),
        Outcome::Limit,
        "deep",
    );
    add("JJ06", "{% for x in [1] recursive %}{{ loop([x]) }}{% endfor %}".into(), Outcome::Limit, "deep");
    add("JJ07", "{{ range(10**9) }}".into(), Outcome::Limit, "100000");
    add("JJ07", "{% for i in range(1000000000) %}x{% endfor %}".into(), Outcome::Limit, "100000");
    add("JJ07", "{{ range(-(10**17), 10**18) | list }}".into(), Outcome::Limit, "100000");
    add(
        "JJ08",
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}".into(),
        Outcome::Limit,
        "steps",
    );
    add(
        "JJ08",
        "{% for i in range(100000) %}{{ range(100000) | map('string') | join }}{% endfor %}".into(),
        Outcome::Limit,
        "",
    );
    for text in [
        "{% set L = range(100000) | list %}{% for i in L %}{% set x = L | sum %}{% endfor %}ok",
        "{% set L = range(100000) | list %}{% for i in L %}{% set x = L | max %}{% endfor %}ok",
        "{% for i in range(100000) %}{% set x = strftime_now('%c' * 1000) %}{% endfor %}ok",
        "{% set s = 'ab' * 70000 %}{% for i in range(100000) %}{% set x = s.swapcase() | urlencode | tojson %}{% endfor %}ok",
    ] {
        add("JJ08", text.into(), Outcome::Limit, "steps");
    }
    for text in [
        "{{ 'x' * 10**9 }}",
        "{{ ('x' * 10**6) * 10**5 * 10**5 }}",
        "{{ 'x' * 10**8 * 10**5 }}",
        "{{ [1] * 10**9 }}",
        "{{ ([1] * 1000) * 1000000 }}",
        "{{ 'x' | center(10**9) }}",
        "{{ 'x'.ljust(10**12) }}",
        "{{ 'x'.zfill(10**9) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ '\\t'.expandtabs(10**10) }}",
        "{{ 'a' | indent(10**10, true) }}",
        "{{ [1] | batch(10**10, 0) | list }}",
        "{{ [1] | slice(10**9) | list }}",
        "{{ '%*d' % (10**9, 1) }}",
        "{{ 'abc' | replace('', 'x' * 10**6) | replace('', 'y' * 10**6) }}",
        "{{ ('a' * 10**6) | list | join('b' * 10**6) }}",
        "{{ 2 ** (10**6) }}",
        "{{ 10 ** 40 }}",
    ] {
        add("JJ09", text.into(), Outcome::Limit, "");
    }
    add("JJ09", "{{ '%.1000000000f' % 1 }}".into(), Outcome::Value, "digits");
    add("JJ09", "{{ '' * 10**18 }}{{ [] * 10**18 }}{{ 'x' * -5 }}".into(), Outcome::Text, "");
    doubled(&mut add);
    for text in [
        "{{ [1] | tojson(indent=10**9) }}",
        "{{ [[1]] | tojson(indent=10**7) }}",
        "{{ messages | tojson(indent='x' * 10**7) }}",
    ] {
        add("JJ11", text.into(), Outcome::Limit, "");
    }
    hidden(&mut add);
    missing(&mut add);
    escapes(&mut add);
    for text in [
        "{% include '/etc/passwd' %}",
        "{% import 'x' as y %}",
        "{% extends \"base\" %}",
        "{% from 'x' import y %}",
        "{% include ['a', 'b'] ignore missing %}",
    ] {
        add("JJ14", text.into(), Outcome::Refused, "reads no other file");
    }
    add("JJ15 1 MiB", "x".repeat(1 << 20), Outcome::Limit, "bytes");
    add("JJ15 1 MiB of tags", "{{a}}".repeat((1 << 20) / 5), Outcome::Limit, "bytes");
    add("JJ15 64 KiB", "{{ n }}".repeat((64 << 10) / 7), Outcome::Text, "");
    add("JJ15 64 KiB of text", "x".repeat(64 << 10), Outcome::Text, "");
    add("JJ15 256 KiB of tags", "{{a}}".repeat((256 << 10) / 5), Outcome::Text, "");
    add("JJ16 ignores", "no message is here".into(), Outcome::Text, "");
    add(
        "JJ16 prints without end",
        format!("{{% for i in range(100000) %}}{}{{% endfor %}}", "much ".repeat(100)),
        Outcome::Limit,
        "KiB",
    );
    all
}

type Add<'a> = &'a mut dyn FnMut(&str, String, Outcome, &'static str);

fn deep(add: Add) {
    let around = |open: &str, middle: &str, close: &str, n: usize| open.repeat(n) + middle + &close.repeat(n);
    add("JJ02", around("{% if true %}", "x", "{% endif %}", 10_000), Outcome::Limit, "deep");
    add("JJ02", "{% if a %}".repeat(20_000), Outcome::Limit, "deep");
    // 50,000 of them are more than the bytes that are read.
    add("JJ02", around("{% if true %}", "x", "{% endif %}", 50_000), Outcome::Limit, "bytes");
    add("JJ02", around("{%if 1%}", "x", "", 25_000), Outcome::Limit, "deep");
    for (open, close) in [
        ("{% for x in [1] %}", "{% endfor %}"),
        ("{% set x %}", "{% endset %}"),
        ("{% filter upper %}", "{% endfilter %}"),
        ("{% with %}", "{% endwith %}"),
        ("{% macro m() %}", "{% endmacro %}"),
        ("{% call m() %}", "{% endcall %}"),
        ("{% generation %}", "{% endgeneration %}"),
    ] {
        add("JJ02", around(open, "", close, 5_000), Outcome::Limit, "deep");
    }
    for (open, close) in [
        ("(", ")"),
        ("[", "]"),
        ("{1:", "}"),
        ("f(", ")"),
        ("a[", "]"),
        ("-", ""),
        ("not ", ""),
        ("(1 if ", " else 2)"),
        ("1 if 1 else ", ""),
    ] {
        add("JJ02", format!("{{{{ {} }}}}", around(open, "1", close, 15_000)), Outcome::Limit, "deep");
    }
}

fn chains(add: Add) {
    let chain = |first: &str, link: &str, n: usize| format!("{{{{ {first}{} }}}}", link.repeat(n));
    for link in [" + 1", " - 1", " * 1", " ** 1", " and 1", " or 0", " // 1", " % 2"] {
        add("JJ03", chain("1", link, 10_000), Outcome::Limit, "chain");
    }
    add("JJ03", chain("1", " ~ 1", 10_000), Outcome::Limit, "more than 10000");
    add("JJ03", chain("1", " < 2", 15_000), Outcome::Limit, "more than 10000");
    add("JJ03", chain("", "not ", 10_000), Outcome::Limit, "deep");
    add("JJ03", chain("", "-", 10_000), Outcome::Limit, "deep");
    add("JJ04", format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}x".repeat(3_000)), Outcome::Limit, "branches");
    add("JJ04", format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}x".repeat(900)), Outcome::Text, "");
    for link in [".a", "|string", " if 1 else 2", "['a']", "()", "|d(1)"] {
        add("JJ05", chain("x", link, 10_000), Outcome::Limit, "");
    }
    add("JJ05", format!("{{{{ [{}] }}}}", "1,".repeat(15_000)), Outcome::Limit, "elements");
    add("JJ05", format!("{{{{ f({}) }}}}", "1,".repeat(15_000)), Outcome::Limit, "arguments");
    add("JJ05", format!("{{% set {} = 1 %}}", "a,".repeat(15_000)), Outcome::Limit, "names");
}

fn doubled(add: Add) {
    let times = |first: &str, again: &str, n: usize| format!("{{% set s = {first} %}}{}", again.repeat(n));
    add("JJ10", times("'x'", "{% set s = s ~ s %}", 40), Outcome::Limit, "memory");
    add("JJ10", times("'x'", "{% set s = s + s %}", 40), Outcome::Limit, "memory");
    add("JJ10", times("messages | string", "{% set s = s ~ s %}", 40), Outcome::Limit, "memory");
    add("JJ10", times("[1]", "{% set s = s + s %}", 40), Outcome::Limit, "");
    add("JJ10", times("'x'", "{% set s %}{{ s }}{{ s }}{% endset %}", 40), Outcome::Limit, "");
    add("JJ10", times("'x'", "{% set s = [s, s] | join %}", 40), Outcome::Limit, "memory");
    add("JJ10", times("'\"'", "{% set s = s | tojson %}", 60), Outcome::Limit, "");
    add("JJ10", times("'\\n'", "{% set s = [s] | string %}", 60), Outcome::Limit, "");
    add("JJ10", times("'<'", "{% set s = s | e | upper | e ~ s %}", 40), Outcome::Limit, "");
    add("JJ10", times("[1]", "{% set s = [s, s] %}", 40) + "{{ s }}", Outcome::Limit, "");
    add("JJ10", times("[1]", "{% set s = [s, s] %}", 40) + "{{ s == s }}{{ s | tojson }}", Outcome::Limit, "steps");
    for text in [
        "(',' * 2000000).split(',')",
        "('a ' * 1000000).split()",
        "('a\\n' * 1000000).splitlines()",
        "('a' * 1000000) | map('upper') | list",
    ] {
        add("JJ10", format!("{{{{ {text} | length }}}}"), Outcome::Limit, "");
    }
    let name = "n".repeat(100_000);
    let long = format!(
        "{{% set ns = namespace(l=[]) %}}{{% for i in range(100000) %}}{{% set ns.l = ns.l + [{name}] %}}{{% endfor %}}"
    );
    add("JJ10", long, Outcome::Limit, "");
    add("JJ10", times("[1]", "{% set s = [s] %}", 1_000), Outcome::Limit, "deep");
    add("JJ10", times("namespace()", "{% set s.a = {'a': s.a} %}", 1_000), Outcome::Limit, "deep");
    let grow = "{% set ns = namespace(s='x') %}{% for i in range(100000) %}{% set ns.s = ns.s ~ 'yyyyyyyyyyyyyyyy' ~ ns.s %}{% endfor %}";
    add("JJ10", grow.into(), Outcome::Limit, "memory");
    let keep = "{% set ns = namespace(s=[]) %}{% for i in range(100000) %}{% set ns.s = ns.s + [i] %}{% endfor %}";
    add("JJ10", keep.into(), Outcome::Limit, "");
    let macros = "{% for i in range(100000) %}{% macro m() %}{{ i }}{% endmacro %}{% set s = namespace(a='xxxxxxxxxxxxxxxxxxxxxxxxx' * 10) %}{% endfor %}";
    add("JJ10", macros.into(), Outcome::Limit, "");
    add(
        "JJ10",
        "{% set ns = namespace() %}{% set ns.a = ns %}{% set ns.b = [ns.a, ns] %}{{ ns.b[0].a.b | length }}".into(),
        Outcome::Text,
        "",
    );
    add("JJ10", "{% for i in [1, 2] %}{{ loop.changed(loop) }}{% endfor %}".into(), Outcome::Text, "");
}

/// Work that is hidden behind few steps.
fn hidden(add: Add) {
    let again = |what: &str| {
        format!(
            "{{% set ns = namespace(s='é' * 1000000) %}}{{% for i in range(100000) %}}{{% for j in range(100) %}}{what}{{% endfor %}}{{% endfor %}}"
        )
    };
    for what in [
        "{% set x = ns.s[500000] %}",
        "{% set x = ns.s | length %}",
        "{% set x = ns.s.isalpha() %}",
        "{% set x = ns.s is lower %}",
        "{% set x = ns.s | int %}",
        "{% set x = ns.s.find('x') %}",
        "{% set x = 'x' in ns.s %}",
        "{% set x = ns.s == ns.s ~ 'x' %}",
        "{% set x = ns.s.strip(ns.s) %}",
        "{% set x = ns.s | replace('é', '') %}",
        "{% set x = ns.s.count('é') %}",
        "{% set x = ns.s | upper %}",
        "{% set x = ns.s | wordcount %}",
        "{% set x = ns.s.startswith('é', 3) %}",
        "{% set x = '%s' % ns.s %}",
        "{% set x = ns.s.split('x') %}",
        "{% set x = ns.s.title() %}",
        "{% set x = ns.s | tojson(ensure_ascii=true) %}",
        "{% set x = ns.s | float %}",
        "{% set x = ns.s | urlencode %}",
    ] {
        add("JJ08 hidden", again(what), Outcome::Limit, "");
    }
    add(
        "JJ08 strip",
        "{% set a = 'a' * 1000000 %}{% set b = 'b' * 1000000 ~ 'a' %}{{ a.strip(b) | length }}".into(),
        Outcome::Limit,
        "steps",
    );
    let keys: Vec<String> = (0..20).map(|i| format!("'{i}': 1")).collect();
    let lookups = format!(
        "{{% set d = {{{}}} %}}{{% set k = 'k' * 1000000 %}}{{% for i in range(100000) %}}{{{{ d[k] }}}}{{{{ d.get(k) }}}}{{{{ k in d }}}}{{% endfor %}}",
        keys.join(", ")
    );
    add("JJ08 keys", lookups, Outcome::Limit, "steps");
    let path = "a.".repeat(50_000) + "a";
    let paths = format!(
        "{{% set ns = namespace() %}}{{% set ns.a = ns %}}{{% for i in range(100000) %}}{{{{ [ns] | map(attribute='{path}') | list | length }}}}{{% endfor %}}"
    );
    add("JJ08 paths", paths, Outcome::Limit, "steps");
    let maps = |n: usize| format!("{{{{ 'a' | map({}'upper') | list | length }}}}", "'map', ".repeat(n));
    add("JJ05 maps", maps(9_000), Outcome::Limit, "");
    add("JJ05 maps", maps(1_000), Outcome::Limit, "");
    let held = format!("{{% macro m() %}}{{{{ [{}m()] }}}}{{% endmacro %}}{{{{ m() }}}}", "1,".repeat(9_000));
    add("JJ06 held", held, Outcome::Limit, "memory");
    let held = format!("{{% macro m() %}}{{{{ m({}m()) }}}}{{% endmacro %}}{{{{ m() }}}}", "1,".repeat(9_000));
    add("JJ06 held", held, Outcome::Limit, "memory");
}

fn missing(add: Add) {
    for (text, outcome, said) in [
        ("{{ nosuch.a }}", Outcome::Undefined, "`nosuch` isn't defined"),
        ("\n\n{{ messages[0].nosuch.deeper }}", Outcome::Undefined, "no attribute `nosuch`"),
        ("{{ messages[7].role }}", Outcome::Undefined, "no such element"),
        ("{{ nosuch() }}", Outcome::Undefined, "nosuch"),
        ("{{ nosuch + 'x' }}", Outcome::Undefined, "nosuch"),
        ("{{ 'x' | nosuch }}", Outcome::Syntax, "no filter `nosuch`"),
        ("{{ 'x' is nosuch }}", Outcome::Syntax, "no test `nosuch`"),
        ("{% if true %}{{ 'x' | nosuch }}{% endif %}", Outcome::Syntax, "no filter `nosuch`"),
        ("{{ ['x'] | map('nosuch') | list }}", Outcome::Syntax, "no filter `nosuch`"),
        ("{{ raise_exception('roles must alternate') }}", Outcome::Raised, "roles must alternate"),
        ("{{ 'a' + 1 }}", Outcome::Value, "str and a int"),
        ("{{ 1 / 0 }}", Outcome::Value, "zero"),
        ("{{ 1 < 'a' }}", Outcome::Value, "no order"),
        ("{% for x in 5 %}{% endfor %}", Outcome::Value, "gone over"),
        ("{{ {[1]: 2} }}", Outcome::Value, "key"),
        ("{{ 'x'() }}", Outcome::Value, "called"),
        ("{{ 170141183460469231731687303715884105727 + 1 }}", Outcome::Limit, "127 bits"),
        ("{{ (-170141183460469231731687303715884105727 - 1) // -1 }}", Outcome::Limit, "127 bits"),
        ("{{ -(-170141183460469231731687303715884105727 - 1) }}", Outcome::Limit, "127 bits"),
        ("{{ (-170141183460469231731687303715884105727 - 1) % -1 }}", Outcome::Limit, "127 bits"),
        (
            "{{ [3, 1][99999999999999999999999] is defined }}{{ 'abc'[-10**30:10**30] }}{{ [1][::10**30] }}",
            Outcome::Text,
            "",
        ),
        ("{{ 'é'[0] }}{{ '日本'[1:] }}{{ 'é'.center(5, '日') }}", Outcome::Text, ""),
        ("{{ [1e308 * 10, 0.0 * 1e308] | sort }}{{ (1e308 * 10) | round }}", Outcome::Text, ""),
        ("{{ (1e308 * 10) | int }}", Outcome::Value, "inf is no whole number"),
        // Numbers that Python would have are named, and never another number.
        ("{{ 1e300 | int }}", Outcome::Limit, "127 bits"),
        ("{{ ('9' * 50) | int }}", Outcome::Limit, "127 bits"),
        ("{{ '1e40' | int }}", Outcome::Limit, "127 bits"),
        ("{{ 1e40 | int }}", Outcome::Limit, "127 bits"),
        ("{{ 'abc' is sameas 'abc' }}", Outcome::Refused, "`sameas`"),
        ("{{ 1.5 is sameas 1.5 }}", Outcome::Refused, "`sameas`"),
        ("{{ lipsum() }}", Outcome::Refused, "`lipsum`"),
        ("{{ {}.fromkeys([1]) }}", Outcome::Refused, "`fromkeys`"),
        (
            "{% set n = (1e308 * 10) - (1e308 * 10) %}{{ [3, n, 1, n, 2, n, 0] | sort | length }}{{ n == n }}",
            Outcome::Text,
            "",
        ),
    ] {
        add("JJ12", text.into(), outcome, said);
    }
}

fn escapes(add: Add) {
    for text in [
        "{{ lipsum.__globals__['os'].popen('id').read() }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ joiner.__init__.__globals__ }}",
        "{{ namespace.__init__.__globals__.os }}",
        "{{ self.__init__.__globals__ }}",
        "{{ messages.__class__.__base__ }}",
        "{{ [].__class__.__base__.__subclasses__()[80] }}",
        "{{ ''['__class__']['__mro__'] }}",
        "{{ '' | attr('__class__') | attr('__mro__') }}",
        "{{ '{0.__class__}'.format('') }}",
        "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}",
        "{{ '{x[__class__]}'.format_map({'x': ''}) }}",
        "{{ ['__class__'] | map('attr', '__mro__') | list | first + 1 }}",
        "{{ [''] | map(attribute='__class__.__mro__') | list }}",
        "{{ messages | selectattr('__class__.__mro__') | list }}",
        "{{ raise_exception.__globals__['__builtins__'] }}",
        "{{ strftime_now.__func__.__globals__ }}",
        "{% set x = ''.join.__self__.__class__.__base__ %}",
        "{{ messages.append({}) }}",
        "{{ messages[0].update({'role': 'system'}) }}",
        "{{ messages[0].pop('content') }}",
        "{{ dict.__base__.__subclasses__() }}",
        "{{ ().__class__.__bases__[0].__subclasses__()[40]('/etc/passwd').read() }}",
        "{{ request.application.__globals__ }}",
        "{{ config.items() }}",
        "{{ get_flashed_messages.__globals__ }}",
        "{{ url_for.__globals__['os'] }}",
        "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
        "{{ namespace(__class__=1) }}",
        "{{ 'x'.encode('utf8').decode() }}",
        "{{ 'x'.translate({}) }}",
        "{{ loop.__class__.__x__ }}",
        "{{ (1).__class__.__mro__ }}",
        "{% macro m() %}{% endmacro %}{{ m.__init__.__globals__ }}",
        "{{ joiner().__class__.__mro__ }}",
        "{% for m in messages %}{{ loop.__init__.__globals__ }}{% endfor %}",
        "{{ __import__('os') }}",
        "{{ open('/etc/passwd').read() }}",
        "{{ eval('1') }}",
    ] {
        // Which of both it is makes no difference: nothing of Python is there.
        let outcome = if text.contains("__") || text.contains("messages") || text.contains("'x'") {
            Outcome::Refused
        } else {
            Outcome::Undefined
        };
        add("JJ13", text.into(), outcome, "");
    }
}
