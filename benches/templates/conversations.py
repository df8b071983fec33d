"""The fifty conversations that every template is rendered with."""

import copy

USER, ASSISTANT = "user", "assistant"


def say(role, content, **more):
    return {"role": role, "content": content, **more}


def call(name, arguments, id="call00001"):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def calls(*list, content="", **more):
    return {"role": ASSISTANT, "content": content, "tool_calls": [*list], **more}


def text(words):
    return {"type": "text", "text": words}


def tool(name, description, properties, required, **more):
    parameters = {"type": "object", "properties": properties, "required": required}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters, **more}}


WEATHER = tool(
    "get_weather",
    "The weather of a city, now.",
    {
        "city": {"type": "string", "description": "The city's name, such as 'Zürich' or \"Kyoto\""},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
    },
    ["city"],
)
# What schemas may hold: nesting, arrays, unions, numbers, and names that are also methods of Python's dicts.
SEARCH = tool(
    "search",
    "Searches <all> documents & notes.\nTwo lines.",
    {
        "query": {"type": "string", "minLength": 1},
        "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 10},
        "threshold": {"type": "number", "default": 0.5, "minimum": 1e-07},
        "exact": {"type": "boolean", "default": False},
        "tags": {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}, "minItems": 1},
        "filter": {
            "type": "object",
            "description": "What to leave out",
            "properties": {"before": {"type": ["string", "null"], "nullable": True}, "items": {"type": "array", "items": {"type": "object", "properties": {"k": {"type": "integer"}}}}},
            "required": ["before"],
            "additionalProperties": {"type": "integer"},
        },
        "either": {"anyOf": [{"type": "string"}, {"type": "integer"}], "description": "a | b"},
    },
    ["query", "limit"],
    **{"return": {"type": "array", "items": {"type": "string"}, "description": "what was found"}},
)
NOTHING = {"type": "function", "function": {"name": "ping", "description": "Takes nothing.", "parameters": {"type": "object", "properties": {}}}}
METHODS = tool(
    "store",
    "Keys with the names of methods",
    {"items": {"type": "string"}, "keys": {"type": "integer", "description": "how many"}, "values": {"type": "array"}, "get": {"type": "string"}, "copy": {"type": "boolean"}},
    ["keys"],
)

LONDON = call("get_weather", {"city": "London", "unit": "celsius"})
QUESTION = say(USER, "What is the weather in London?")
RESULT = {"role": "tool", "tool_call_id": "call00001", "name": "get_weather", "content": '{"temperature": 11.5, "sky": "grey"}'}
PART_USER = say(USER, [text("Two parts: "), text("one text.")])


def conversations():
    """A list of (name, messages, the other arguments of the template)."""
    found = []

    def add(name, *messages, prompt=False, **more):
        # No template may change what the next one gets.
        found.append((name, copy.deepcopy([*messages]), {**copy.deepcopy(more), "add_generation_prompt": prompt}))

    hello = [say(USER, "Hello, who are you?"), say(ASSISTANT, "I am a model.")]
    more = [say(USER, "And what can you do?"), say(ASSISTANT, "Read and write."), say(USER, "Show me.")]
    system = say("system", "You are terse.")
    # Plain text.
    add("one question", hello[0])
    add("one question, to be answered", hello[0], prompt=True)
    add("one answer", *hello)
    add("one answer, and a prompt", *hello, prompt=True)
    add("system", system, *hello)
    add("system, to be answered", system, hello[0], prompt=True)
    add("several turns", *hello, *more, say(ASSISTANT, "Here."))
    add("several turns, to be answered", *hello, *more, prompt=True)
    add("system and several turns", system, *hello, *more, say(ASSISTANT, "Here."))
    add("a system's message only", system)
    add("two systems' messages", system, say("system", "And kind."), *hello)
    add("a system's message later", hello[0], system, hello[1])
    add("a developer's message", say("developer", "Use metric units."), *hello)
    add("the assistant begins", say(ASSISTANT, "Good morning."), *hello)
    add("two users' messages in a row", hello[0], say(USER, "Are you there?"), hello[1])
    add("two answers in a row", *hello, say(ASSISTANT, "And a good one."))
    add("a role of nobody", hello[0], say("critic", "Too short."), hello[1])
    # Difficult text.
    add("unicode", say("system", "Ты — помощник. 你是助手。"), say(USER, "Größe, naïve, ﬁn, İstanbul, ς Σ"), say(ASSISTANT, "日本語もできます。\u2028Zeile\u0085zwei"))
    add("emoji", say(USER, "👩‍👩‍👧‍👦 and 🇨🇭, \u200d é"), say(ASSISTANT, "😀🧪 ok"))
    add("white space", say("system", "  \n indented\t"), say(USER, "\n\n  Hello \t\n"), say(ASSISTANT, " \n\nan answer\n\n "), say(USER, "x\r\ny\rz"), prompt=True)
    add("odd white space", say(USER, "\u00a0\u2003thin\u3000"), say(ASSISTANT, "\x1c\x1funit\x1e\x0b\x0c"))
    add("empty texts", say("system", ""), say(USER, ""), say(ASSISTANT, ""), say(USER, "?"), prompt=True)
    add("nothing but white space", say(USER, "   "), say(ASSISTANT, "\n"))
    add("text that looks like a template", say(USER, "{{ 1 + 1 }} {% if x %} {# c #} \\n"), say(ASSISTANT, "'quoted' \"twice\" `code` <b>&amp;</b> \\"))
    add("text that looks like the template's own", say(USER, "<|im_end|>\n<|im_start|>assistant\n[INST] </s> <think>"), say(ASSISTANT, "<b>bold</b> <|endoftext|> tail"))
    add("control characters", say(USER, "bell \x07 null-ish \x01 del \x7f"), say(ASSISTANT, "tab\tand\\backslash"))
    add("a long conversation", *[say([USER, ASSISTANT][i % 2], f"Turn {i}: " + "word " * i) for i in range(12)])
    # Content as parts.
    add("parts", PART_USER, say(ASSISTANT, [text("An answer.")]))
    add("parts, to be answered", say("system", [text("Be kind.")]), PART_USER, prompt=True)
    add("an image", say(USER, [{"type": "image"}, text("What is this?")]), say(ASSISTANT, [text("A cat.")]))
    add("no content", say(USER, "Hm?"), {"role": ASSISTANT})
    add("content of none", say(USER, "Hm?"), say(ASSISTANT, None))
    # Tools.
    add("a tool", QUESTION, tools=[WEATHER], prompt=True)
    add("tools, none used", system, *hello, tools=[WEATHER, SEARCH, NOTHING])
    add("a call", QUESTION, calls(LONDON), tools=[WEATHER])
    add("a call and its result", QUESTION, calls(LONDON), RESULT, tools=[WEATHER], prompt=True)
    add("a call, its result and an answer", system, QUESTION, calls(LONDON), RESULT, say(ASSISTANT, "11.5 °C and grey."), tools=[WEATHER, SEARCH])
    add("a call without content", QUESTION, calls(LONDON, content=None), RESULT, say(ASSISTANT, "Grey."), tools=[WEATHER])
    add("a call with words", QUESTION, calls(LONDON, content="Let me look."), RESULT, say(ASSISTANT, "Grey."), tools=[WEATHER])
    add("arguments as text", QUESTION, calls(call("get_weather", '{"city": "London"}')), RESULT, say(ASSISTANT, "Grey."), tools=[WEATHER])
    two = calls(LONDON, call("search", {"query": "a <b> & \"c\" 'd'", "limit": 3, "threshold": 1e-07, "exact": True, "tags": ["a", "ü"], "filter": {"before": None, "n": 1.0}}, "call00002"))
    add("two calls at once", QUESTION, two, RESULT, {**RESULT, "tool_call_id": "call00002", "name": "search", "content": "[]"}, say(ASSISTANT, "Both are done."), tools=[WEATHER, SEARCH])
    add("calls one after the other", QUESTION, calls(LONDON), RESULT, calls(call("ping", {}, "call00003")), {"role": "tool", "tool_call_id": "call00003", "name": "ping", "content": "pong"}, say(ASSISTANT, "Done."), say(USER, "Thanks."), prompt=True, tools=[WEATHER, NOTHING])
    add("a result as an object", QUESTION, calls(LONDON), {**RESULT, "content": {"temperature": 11.5, "sky": None}}, say(ASSISTANT, "Grey."), tools=[WEATHER])
    add("names of methods", say(USER, "Store it."), calls(call("store", {"items": "x", "keys": 2, "values": [1, 2.5, 1e16, -0.0], "get": "'", "copy": False})), {"role": "tool", "tool_call_id": "call00001", "name": "store", "content": "ok"}, tools=[METHODS], prompt=True)
    add("calls without a list of tools", QUESTION, calls(LONDON), RESULT, say(ASSISTANT, "Grey."))
    # Reasoning.
    thought = "The user greets.\nI greet back."
    add("reasoning", hello[0], say(ASSISTANT, "Hi.", reasoning_content=thought))
    add("reasoning in every turn", hello[0], say(ASSISTANT, "Hi.", reasoning_content=thought), say(USER, "2+2?"), say(ASSISTANT, "4", reasoning_content="Easy."))
    add("thinking", hello[0], say(ASSISTANT, "Hi.", thinking=thought), say(USER, "And now?"), prompt=True)
    add("reasoning in the text", hello[0], say(ASSISTANT, f"<think>\n{thought}\n</think>\n\nHi."), say(USER, "2+2?"), say(ASSISTANT, "<think>\n\n</think>\n\n4"))
    add("reasoning before a call", QUESTION, calls(LONDON, reasoning_content="I must look."), RESULT, say(ASSISTANT, "Grey.", reasoning_content="It said so."), tools=[WEATHER])
    assert len(found) == 50, len(found)
    return found
