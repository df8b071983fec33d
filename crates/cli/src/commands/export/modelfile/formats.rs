//! The known chat formats: the text around each message.

/// A format. `{eos}` and `{bos}` stand for the tokenizer's own tokens.
#[derive(Debug)]
pub struct Format {
    pub name: &'static str,
    /// The ways to write a system message; a template uses one of them.
    pub systems: &'static [System],
    /// The text before and after the user's message.
    pub user: Around,
    /// The text before and after the assistant's message.
    pub assistant: Around,
    /// What ends an answer, apart from the tokenizer's end-of-sequence token.
    pub stops: &'static [&'static str],
}

pub type Around = (&'static str, &'static str);

/// The position of a system message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum System {
    /// In a turn of its own, before all others.
    Turn(Around),
    /// At the beginning of the user's first message.
    FirstUser(Around),
    /// At the beginning of the user's last message.
    LastUser(Around),
}

use System::{FirstUser, LastUser, Turn};

const BLANK_LINE: Around = ("", "\n\n");

pub const FORMATS: &[Format] = &[
    Format {
        name: "ChatML",
        systems: &[Turn(("<|im_start|>system\n", "<|im_end|>\n"))],
        user: ("<|im_start|>user\n", "<|im_end|>\n"),
        assistant: ("<|im_start|>assistant\n", "<|im_end|>\n"),
        stops: &["<|im_start|>", "<|im_end|>"],
    },
    Format {
        name: "Llama 3",
        systems: &[Turn((
            "<|start_header_id|>system<|end_header_id|>\n\n",
            "<|eot_id|>",
        ))],
        user: ("<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"),
        assistant: (
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
            "<|eot_id|>",
        ),
        stops: &["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    },
    Format {
        name: "Gemma",
        systems: &[FirstUser(BLANK_LINE)],
        user: ("<start_of_turn>user\n", "<end_of_turn>\n"),
        assistant: ("<start_of_turn>model\n", "<end_of_turn>\n"),
        stops: &["<start_of_turn>", "<end_of_turn>"],
    },
    Format {
        name: "Phi-3",
        systems: &[Turn(("<|system|>\n", "<|end|>\n"))],
        user: ("<|user|>\n", "<|end|>\n"),
        assistant: ("<|assistant|>\n", "<|end|>\n"),
        stops: &["<|user|>", "<|end|>"],
    },
    Format {
        name: "Phi-4-mini",
        systems: &[Turn(("<|system|>", "<|end|>"))],
        user: ("<|user|>", "<|end|>"),
        assistant: ("<|assistant|>", "<|end|>"),
        stops: &["<|user|>", "<|end|>"],
    },
    Format {
        name: "Phi-4",
        systems: &[Turn(("<|im_start|>system<|im_sep|>", "<|im_end|>"))],
        user: ("<|im_start|>user<|im_sep|>", "<|im_end|>"),
        assistant: ("<|im_start|>assistant<|im_sep|>", "<|im_end|>"),
        stops: &["<|im_start|>", "<|im_end|>"],
    },
    Format {
        name: "Zephyr",
        systems: &[Turn(("<|system|>\n", "{eos}\n"))],
        user: ("<|user|>\n", "{eos}\n"),
        assistant: ("<|assistant|>\n", "{eos}\n"),
        stops: &["<|user|>"],
    },
    Format {
        name: "OLMo 2",
        systems: &[Turn(("<|system|>\n", "\n"))],
        user: ("<|user|>\n", "\n"),
        assistant: ("<|assistant|>\n", "{eos}\n"),
        stops: &["<|user|>"],
    },
    Format {
        name: "Granite",
        systems: &[Turn((
            "<|start_of_role|>system<|end_of_role|>",
            "<|end_of_text|>\n",
        ))],
        user: ("<|start_of_role|>user<|end_of_role|>", "<|end_of_text|>\n"),
        assistant: (
            "<|start_of_role|>assistant<|end_of_role|>",
            "<|end_of_text|>\n",
        ),
        stops: &["<|start_of_role|>", "<|end_of_text|>"],
    },
    Format {
        name: "Command R",
        systems: &[Turn((
            "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>",
            "<|END_OF_TURN_TOKEN|>",
        ))],
        user: (
            "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>",
            "<|END_OF_TURN_TOKEN|>",
        ),
        assistant: (
            "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
            "<|END_OF_TURN_TOKEN|>",
        ),
        stops: &["<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"],
    },
    Format {
        name: "GLM-4",
        systems: &[Turn(("<|system|>\n", ""))],
        user: ("<|user|>\n", ""),
        assistant: ("<|assistant|>\n", ""),
        stops: &["<|user|>", "<|endoftext|>"],
    },
    Format {
        name: "Mistral",
        systems: MISTRAL,
        user: ("[INST] ", " [/INST]"),
        assistant: (" ", "{eos}"),
        stops: &["[INST]", "[/INST]"],
    },
    Format {
        name: "Mistral v3",
        systems: MISTRAL,
        user: ("[INST] ", "[/INST]"),
        assistant: (" ", "{eos}"),
        stops: &["[INST]", "[/INST]"],
    },
    Format {
        name: "Mistral Nemo",
        systems: MISTRAL,
        user: ("[INST]", "[/INST]"),
        assistant: ("", "{eos}"),
        stops: &["[INST]", "[/INST]"],
    },
    Format {
        name: "Llama 2",
        systems: &[FirstUser(("<<SYS>>\n", "\n<</SYS>>\n\n"))],
        user: ("[INST] ", " [/INST]"),
        assistant: (" ", " {eos}{bos}"),
        stops: &["[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"],
    },
];

const MISTRAL: &[System] = &[
    Turn(("[SYSTEM_PROMPT] ", "[/SYSTEM_PROMPT]")),
    Turn(("[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]")),
    FirstUser(BLANK_LINE),
    LastUser(BLANK_LINE),
];

/// All names, for a message.
pub fn names() -> String {
    let names: Vec<&str> = FORMATS.iter().map(|format| format.name).collect();
    names.join(", ")
}
