"""Small templates with what the templates of models may use of Jinja2 and Python, beyond what trl's use.

Each is rendered with the messages and names below. Expressions that try similar things share a line.
"""

MESSAGES = [{"role": "user", "content": "  Hi <b>you</b>  ", "n": 3}, {"role": "assistant", "content": "Ho"}]
NAMES = {
    "d": {"b": 1, "A": 2.5, "items": "mine", "c": [1, {"x": None}], "é": True},
    "l": [3, 1, 2],
    "words": ["b", "A", "ä", "B"],
    "people": [{"name": "Bo", "age": 7}, {"name": "al", "age": 5}, {"name": "Cy", "age": 7}],
    "empty": [],
    "none_": None,
    "s": "one two  three\u00a0four\n five ",
    "f": 0.1,
    "big": 1e16,
    "small": 1e-07,
    "yes": True,
    "tools": None,
}

TEXTS = r"""
{{ d }}
{{ l }}|{{ people }}|{{ words }}
{{ ["it's", '"', "both ' and \"", "\n\t\\", "é\u00a0\u200d\u2028\x07"] }}
{{ (1,) }}{{ (1, 'a') }}{{ () }}{{ [] }}{{ {} }}{{ {1: 2, none: true} }}
{{ 1.0 }}|{{ 0.1 + 0.2 }}|{{ 1e15 }}|{{ 1e16 }}|{{ 1e-4 }}|{{ 1e-5 }}|{{ big }}|{{ small }}|{{ 100.0 * 3 }}|{{ 1 / 3 }}
{{ [1.0, 1e22, 1e-7, 123456789.125] }}
{{ true }}{{ false }}{{ none }}{{ True }}{{ None }}
{{ 7 // 2 }}{{ -7 // 2 }}{{ 7 % 3 }}{{ -7 % 3 }}{{ 2 ** 10 }}{{ 2 ** -1 }}{{ 7 / 2 }}{{ 4 / 2 }}
{{ true + 1 }}{{ 1 == true }}{{ 0 == false }}{{ 1 == 1.0 }}{{ '1' == 1 }}{{ none == false }}
{{ d | tojson }}
{{ d | tojson(indent=2) }}
{{ d | tojson(true, 1) }}
{{ d | tojson(ensure_ascii=true, sort_keys=true) }}
{{ l | tojson(separators=(',', ':')) }}
{{ d | tojson(indent=4, separators=(', ', ' : ')) }}
{{ d | tojson(indent='--') }}
{{ {} | tojson(indent=2) }}{{ [] | tojson(indent=2) }}{{ [[]] | tojson(indent=0) }}
{{ "<a> & 'b' \"c\" é \x7f \x1f 😀" | tojson }}{{ "é😀\x7f" | tojson(ensure_ascii=true) }}
{{ [1e16, 1e-7, 1.0, -0.0, 12345678901234567890] | tojson }}
{{ {1: 2, none: none, 1.5: 'x'} | tojson }}
{{ missing | tojson }}
{{ (1, 2) | tojson }}
{{ l | sort }}|{{ words | sort }}|{{ words | sort(case_sensitive=true) }}|{{ words | sort(reverse=true) }}|{{ l | sort(true) }}
{{ people | sort(attribute='age') | map(attribute='name') | join(',') }}
{{ people | sort(attribute='age,name', reverse=true) | map(attribute='name') | join(',') }}
{{ [1, 'a'] | sort }}
{% for k, v in d | dictsort %}{{ k }}={{ v }};{% endfor %}
{% for k, v in {'b': 2, 'a': 3} | dictsort(by='value', reverse=true) %}{{ k }}={{ v }};{% endfor %}
{% for k, v in d | dictsort(true) %}{{ k }};{% endfor %}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}
{% for k, v in d | items %}{{ k }}={{ v }};{% endfor %}{% for k in missing | items %}x{% endfor %}
{{ d.items is defined }}{{ d['items'] }}{{ d.keys is defined }}{{ {}.items is defined }}{{ {}['items'] is defined }}{{ d.pop is defined }}
{% if {'type': 'x'}.items %}has{% endif %}{% if {'type': 'x'}['items'] %}has{% endif %}{{ d.nothing is defined }}
{% set f = d.get %}{{ f('b') }}{{ f('z', 'no') }}{{ d.get('z') }}{{ d.get('c')[0] }}
{{ s.strip is defined }}{{ s.nothing is defined }}{{ l.append is defined }}{{ l.count is defined }}
{{ d.keys() | list }}{{ d.values() | list }}{{ d.items() | list }}{{ 'b' in d.keys() }}{{ d.keys() | length }}
{{ s.split() }}|{{ s.split(' ') }}|{{ s.split(none, 1) }}|{{ s.split(' ', 1) }}|{{ 'a,b,c'.split(',', maxsplit=1) }}
{{ 'a,b,c'.rsplit(',', 1) }}|{{ ' a b '.rsplit(none, 1) }}|{{ 'a\nb\r\nc\x0bd'.splitlines() }}|{{ 'a\nb'.splitlines(true) }}
{{ '\x1c a \x1f'.strip() }}|{{ '\x1c a \x1f' | trim }}|{{ '  a'.lstrip() }}|{{ 'xxaxx'.rstrip('x') }}|{{ 'xyaxy' | trim('xy') }}
{{ 'abcabc'.replace('b', 'X', 1) }}{{ 'abcabc' | replace('b', 'X', 1) }}{{ 'abc' | replace('', '-') }}{{ 5 | replace(5, 6) }}
{{ 'hello World'.title() }}{{ "they're bill's" | title }}{{ "they're".title() }}{{ 'hELLO' | capitalize }}{{ 'hELLO'.capitalize() }}{{ 'aB'.swapcase() }}
{{ 'abc'.startswith('a') }}{{ 'abc'.startswith(('x', 'a')) }}{{ 'abc'.endswith('bc', 1) }}{{ 'abc'.startswith('b', 1, 2) }}
{{ 'abcb'.find('b') }}{{ 'abcb'.rfind('b') }}{{ 'abcb'.find('z') }}{{ 'abcb'.index('c') }}{{ 'abcb'.count('b') }}{{ 'éab'.find('b') }}
{{ 'abc'.index('z') }}
{{ 'a-b-c'.partition('-') }}{{ 'a-b-c'.rpartition('-') }}{{ 'abc'.removeprefix('a') }}{{ 'abc'.removesuffix('c') }}
{{ '7'.zfill(3) }}{{ '-7'.zfill(4) }}{{ 'a'.ljust(3, '.') }}{{ 'a'.rjust(3) }}{{ 'ab'.center(5, '*') }}
{{ 'a'.isdigit() }}{{ '12'.isdigit() }}{{ 'aB'.isalpha() }}{{ ' '.isspace() }}{{ 'ab'.islower() }}{{ 'AB1'.isupper() }}{{ 'a1'.isalnum() }}
{{ ','.join(['a', 'b']) }}
{{ ','.join([1, 2]) }}
{{ 'ABC'.lower() }}{{ 'straße'.upper() }}{{ 'İ'.lower() }}{{ 'ΑΣ'.lower() }}
{{ '%(a)s' % {'a': 1} }}{{ '%5.1f|%-4s|%04d' | format(2.25, 'a', 7) }}
{{ 'abc'[0] }}{{ 'abc'[-1] }}{{ 'abc'[5] is defined }}{{ l[0] }}{{ l[-1] }}{{ l[9] is defined }}{{ (1, 2)[1] }}
{{ 'abc'[1:] }}{{ 'abc'[::-1] }}{{ l[1:] }}{{ l[:-1] }}{{ (1, 2, 3)[::2] }}
{{ missing }}|{{ missing is defined }}|{{ missing is undefined }}|{{ missing ~ 'x' }}|{{ missing == missing }}|{{ missing == none }}
{{ missing | length }}
{{ missing | first }}|{{ missing | last }}|{{ missing | list }}
{{ missing | trim }}|{{ missing | upper }}|{{ missing | string }}|{{ missing | default('x') }}|{{ missing | join(',') }}
{{ missing.attribute }}
{{ missing['attribute'] }}
{{ missing + 'x' }}
{{ missing < 3 }}
{{ missing() }}
{{ 'a' in missing }}{{ missing is iterable }}{{ missing is sequence }}{{ missing is mapping }}{{ missing is string }}
{% for x in missing %}x{% else %}none{% endfor %}
{% for x in none_ %}x{% endfor %}
{% for x in 5 %}x{% endfor %}
{% for x in 'abc' %}{{ x }}-{% endfor %}{% for k in d %}{{ k }};{% endfor %}
{{ none_.attribute is defined }}{{ none_['x'] is defined }}
{{ none_.attribute.more }}
{{ none_ | length }}
{{ none_ | list }}
{{ none_ | join }}
{{ none_ | default('x') }}|{{ none_ | default('x', true) }}|{{ '' | default('x', boolean=true) }}|{{ none_ is none }}|{{ none_ | string }}|{{ none_ | upper }}
{{ 'a' in none_ }}
{{ l[0] in 'a3' }}
{{ 'a' in 'abc' }}{{ 'b' in d }}{{ 3 in l }}{{ 'z' not in d }}{{ 1 in (1, 2) }}{{ 'a' in ['a'] }}
{{ 'a' + 1 }}
{{ 'a' + none }}
{{ l + (1,) }}
{{ l + [4] }}{{ (1,) + (2,) }}{{ 'a' * 3 }}{{ [0] * 2 }}{{ 'a' * -1 }}{{ 3 * 'ab' }}
{{ 'a' ~ 1 ~ none ~ 1.5 ~ [1, 'b'] ~ d.c }}
{{ 'a' < 'b' }}{{ 1 < 2.5 }}{{ [1, 2] < [1, 3] }}{{ 1 < 2 < 3 }}{{ 3 > 2 > 2 }}
{{ s < 1 }}
{{ none_ < 1 }}
{{ l is sequence }}{{ s is sequence }}{{ d is sequence }}{{ 5 is sequence }}{{ none is sequence }}{{ (1,) is sequence }}
{{ l is iterable }}{{ s is iterable }}{{ d is iterable }}{{ 5 is iterable }}{{ none is iterable }}
{{ d is mapping }}{{ l is mapping }}{{ s is string }}{{ 5 is number }}{{ true is number }}{{ true is integer }}{{ 5 is integer }}{{ 5.0 is float }}{{ true is boolean }}{{ yes is true }}{{ 1 is true }}{{ 0 is false }}
{{ 4 is even }}{{ 3 is odd }}{{ 9 is divisibleby(3) }}{{ 'a' is lower }}{{ 'A' is upper }}{{ 3 is in l }}{{ 3 is eq 3 }}{{ 3 is gt 2 }}{{ 3 is le(2) }}{{ none is sameas none }}
{{ range is callable }}{{ l is callable }}{{ d.get is callable }}{{ 'upper' is filter }}{{ 'nope' is filter }}{{ 'odd' is test }}
{{ 'a\nb\n\nc' | indent }}|{{ 'a\nb' | indent(2, true) }}|{{ 'a\n\nb' | indent(width=2, first=true, blank=true) }}|{{ 'a\nb' | indent('> ') }}|{{ '' | indent }}|{{ 'a\n' | indent(1) }}
{{ l | first }}{{ l | last }}{{ l | min }}{{ l | max }}{{ l | sum }}{{ people | sum(attribute='age') }}{{ empty | first }}{{ empty | sum }}
{{ people | map(attribute='name') | list }}{{ people | map(attribute='zip', default='-') | join }}{{ words | map('upper') | list }}{{ words | map('replace', 'b', 'c') | list }}
{{ people | selectattr('age', 'equalto', 7) | map(attribute='name') | join('+') }}{{ people | rejectattr('age', 'eq', 7) | list | length }}{{ l | select('odd') | list }}{{ l | reject('gt', 1) | list }}{{ [0, 1, ''] | select | list }}
{{ l | join }}{{ l | join(', ') }}{{ people | join('|', attribute='name') }}{{ [1.5, none, true, 'a', [1]] | join(' ') }}{{ 'abc' | join('-') }}
{{ l | unique | list }}{{ words | unique | list }}{{ l | reverse | list }}{{ 'abc' | reverse }}{{ l | batch(2) | list }}{{ l | batch(2, 0) | list }}{{ l | slice(2) | list }}
{% for g in people | groupby('age') %}{{ g.grouper }}:{% for p in g.list %}{{ p.name }},{% endfor %};{% endfor %}
{{ 3.7 | int }}{{ '12' | int }}{{ 'x' | int }}{{ 'x' | int(5) }}{{ '1.5' | float }}{{ 2.5 | round }}{{ 3.14159 | round(2) }}{{ 2.4 | round(0, 'ceil') }}{{ -5 | abs }}{{ '0x1f' | int(0, 16) }}
{{ 'a b c' | wordcount }}
{{ 'abc' | length }}{{ '👩‍👩' | length }}{{ d | length }}{{ l | count }}
{{ 'a' | upper }}{{ 'A' | lower }}{{ 5 | string }}{{ 'abc' | list }}{{ 1 | string + 'x' }}
{{ '<b>' | e }}{{ '<b>' | escape }}{{ '<b>' | safe }}{{ '<i>' | safe + '<b>' }}{{ '<b>' + ('<i>' | safe) }}{{ ('<i>' | safe) ~ '<b>' }}{{ ('<i>' | safe).strip() + "'\"&" }}
{% set ns = namespace(a=1, items='x') %}{% for i in [1, 2] %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}{{ ns.items }}{{ ns.b is defined }}
{% set x = 1 %}{% for i in [1] %}{% set x = 2 %}{% endfor %}{{ x }}{% if true %}{% set x = 3 %}{% endif %}{{ x }}
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set c %}text {{ a }}{% endset %}{{ c }}{{ c | upper }}
{% for i in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.cycle('a', 'b') }}{{ loop.previtem | default('-') }}{{ loop.nextitem | default('-') }}{{ loop.changed(i) }};{% endfor %}
{% for i in range(5) if i % 2 %}{{ i }}{{ loop.index }}{% else %}e{% endfor %}{% for i in range(5) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}
{% for i in [1, [2, [3]]] recursive %}{% if i is iterable %}({{ loop(i) }}){% else %}{{ i }}{% endif %}{% endfor %}
{% macro m(a, b='x', *c) %}{{ a }}{{ b }}{% endmacro %}
{% macro m(a) %}<{{ a }}>{{ caller() }}{% endmacro %}{% call m(1) %}in{% endcall %}{% macro o() %}{{ l }}{% endmacro %}{{ o() }}{{ m is callable }}
{% macro r(n) %}{{ n }}{% if n %}{{ r(n - 1) }}{% endif %}{% endmacro %}{{ r(3) }}{{ r(2) | upper | trim }}
{% with q = 5 %}{{ q }}{% endwith %}{{ q is defined }}{% filter upper %}abc{% endfilter %}{% raw %}{{ x }}{% endraw %}{# comment #}
{% if not missing and not none_ and not empty and not '' and not 0 and not {} %}falsy{% endif %}{{ missing or 'b' }}{{ 'a' and '' }}{{ none_ or 0 or [] }}
{{ 'a' if missing else 'b' }}{{ 'a' if false }}|{{ ('a' if false) is defined }}
{{ range(3) | list }}{{ range(1, 7, 2) | list }}{{ range(3, 0, -1) | list }}{{ range(2)[1] }}{{ range(3) | length }}
{{ 1_000 }}{{ 0x1f }}{{ 1.5e3 }}{{ 12345678901234567890 }}{{ 99999999999999999999999999 }}
{{ d.c[1].x is none }}{{ d['c'][0] }}{{ d.c.0 }}
{{ messages | length }}{{ messages[0].content | trim }}{{ messages[-1]['role'] }}{{ messages[1:] | length }}{{ messages | map(attribute='role') | list }}
{{ messages | selectattr('role', 'equalto', 'user') | list | length }}{{ (messages | selectattr('role', 'equalto', 'user') | first).n }}
{{ tools is defined }}{{ tools is none }}{{ documents is defined }}{{ add_generation_prompt }}{{ bos_token }}{{ tools | default('x') }}
{{ '{} {}'.format(1, 'a') }}{{ '{x:>4}'.format(x=1) }}{{ '%s %d %.2f' % ('a', 3, 1.5) }}{{ '%s' % 'x' }}{{ '%s' | format('y') }}
{% macro m(a, b='x') %}[{{ a }}{{ b }}]{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(1, b=4) }}{{ m(b=1, a=2) }}
{{ dict(a=1, b=2) }}{{ dict({'a': 1}, b=2) }}
{{ 'a' 'b' }}{{ "\u00e9\x41\101\n\'" }}{{ '\d' }}
{{ 'a;b' | replace(';', '\n') | indent(2) }}
{{ caller is defined }}{{ loop is defined }}
{{ raise_exception('stop') }}
{{ missing | upper | nope }}
{{ l.append(4) }}
{{ d.update({'z': 1}) }}
{{ l is nope }}
{% if l is not nope %}{% endif %}
{{ nope() }}
{{ d.nope() }}
{{ 'a'.nope() }}
{{ 1 // 0 }}
{{ 1 % 0 }}
{% set d.x = 1 %}
{{ d | attr('b') }}{{ l | attr('nope') is defined }}
{{ 'A' | d('x') }}{{ missing | d }}
{{ strftime_now('%Y') | int > 2000 }}{{ strftime_now('%d %b %Y, %A %j %H') | length > 5 }}
{{ l | length == 3 and d | length > 2 }}{{ not l | length }}{{ -l | length }}
{{ l|map('string')|join(',') }}{{ [['a', 1]] | map('first') | list }}{{ [{'a': {'b': 2}}] | map(attribute='a.b') | list }}
{{ d.copy() == d }}{{ d | list }}{{ d | first }}{{ l.index(2) }}{{ l.count(1) }}{{ (1, 1).count(1) }}
{{ [1, 2] == [1, 2] }}{{ (1, 2) == [1, 2] }}{{ {'a': 1} == {'a': 1.0} }}{{ 'a' != 'b' }}
{{ s | trim | replace('\n', ' ') | lower }}{{ s | wordcount }}
{{- '  x  ' -}}   y
{%- if true -%}  a  {%- endif -%}  b
{%+ if true %} a {% endif +%} b
{% import 'x' as y %}
{{ [*l] }}
""".strip().split("\n")

# Templates of more than one line.
TEXTS += [
    "a\n  {% if true %}\n  b\n  {% endif %}\nc\n",
    "{% for i in l %}\n    {{ i }}\n{% endfor %}\n\n",
    "\t{# c #}\nx\n  {#- c -#}  \ny",
    "a\r\nb{{ '\r\n' }}\r{% if true %}\r\nc{% endif %}",
    "{{ l\n | join(',') }}\n{%- set x = [\n 1,\n 2,\n] %}\n{{ x }}",
    "{% generation %}\nx\n{% set y = 1 %}\n{%- endgeneration %}\n{{ y is defined }}",
    "  {%- generation -%}\n  a {{ l }}\n  {%- endgeneration -%}\n b",
]

# What Jinja2 has and our side refuses, each with an error.
REFUSED = r"""
{{ [1, 2, 3] | random is integer }}
{{ 'x' | center(5) }}
{{ 'a long text of words' | truncate(10) }}
{{ 'a long text of words' | wordwrap(8) }}
{{ 'a b&c' | urlencode }}
{{ 'http://a.b' | urlize }}
{{ 1000 | filesizeformat }}
{{ '<p>a</p>' | striptags }}
{{ {'a': 1} | xmlattr }}
{{ '<' | forceescape }}
{{ d | pprint }}
{{ cycler('a', 'b').next() }}
{% set j = joiner(',') %}{{ j() }}
{{ lipsum() is defined }}
{{ '{y!r}'.format(y='b') }}
{% macro m(a) %}{{ varargs }}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{{ kwargs }}{% endmacro %}{{ m(1, b=2) }}
{{ dict([('a', 1)]) }}
{{ dict.fromkeys([1]) }}
{% autoescape true %}{{ '<' }}{% endautoescape %}
{% block b %}x{% endblock %}
""".strip().split("\n")
