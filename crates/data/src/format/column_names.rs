//! The names of known columns.

/// Columns that hold a chat.
pub(crate) const CHATS: [&str; 2] = ["messages", "conversations"];
/// Columns that a chat template may use beside the messages: lists, settings for reasoning, and an
/// object of further variables.
pub(crate) const EXTRAS: [&str; 8] = [
    TOOLS[0],
    TOOLS[1],
    "documents",
    FLAGS[0],
    FLAGS[1],
    FLAGS[2],
    FLAGS[3],
    KWARGS,
];
/// Columns that hold tools, the newer name first.
pub(crate) const TOOLS: [&str; 2] = ["tools", "functions"];
/// Columns that go to the chat template unchanged.
pub(crate) const FLAGS: [&str; 4] = [
    "enable_thinking",
    "preserve_thinking",
    "clear_thinking",
    "reasoning_effort",
];
/// A column of further variables for the chat template.
pub(crate) const KWARGS: &str = "chat_template_kwargs";
/// Columns that hold the completion of a prompt, the most common first.
pub(crate) const COMPLETIONS: [&str; 4] = ["completion", "output", "response", "answer"];
/// Columns that are often a prompt, though no convention says how to put them before the
/// completion.
pub(crate) const PROMPTS: [&str; 9] = [
    "question",
    "query",
    "input",
    "instruction",
    "prompt",
    "problem",
    "source",
    "article",
    "document",
];
/// The completions that go with them.
pub(crate) const ANSWERS: [&str; 8] = [
    "answer",
    "response",
    "output",
    "completion",
    "solution",
    "summary",
    "target",
    "text",
];
/// Columns that hold the system's message.
pub(crate) const SYSTEM: [&str; 3] = ["system", "system_prompt", "system_message"];
/// Columns that hold the input of an instruction.
pub(crate) const INPUT: [&str; 2] = ["input", "context"];
/// Columns in which 0 means that the row is not learnt.
pub(crate) const WEIGHTS: [&str; 3] = ["weight", "loss_weight", "sample_weight"];
/// Columns in which `false` means that the answer is a bad one, as in KTO's files.
pub(crate) const LABELS: [&str; 2] = ["label", "kto_tag"];
/// Columns with 1 or 0 for each token, learnt or not, under the names that TRL and others use.
pub(crate) const LOSS_MASKS: [&str; 4] = [
    "completion_mask",
    "assistant_masks",
    "assistant_mask",
    "loss_mask",
];
/// The better of two answers, and the worse one.
pub(crate) const PREFERENCES: [&str; 2] = ["chosen", "rejected"];
/// By how much the better answer is better, under TRL's name.
pub(crate) const MARGIN: &str = "margin";
/// Further columns that carry meaning.
const MEANT: &[&str] = &[
    "attention_mask",
    "audio",
    "audios",
    "chosen_response",
    "history",
    "image",
    "images",
    "input_ids",
    "instruction",
    "labels",
    "loss",
    "mask",
    "prompt",
    "rejected_response",
    "text",
    "train",
    "train_on_turn",
    "training",
    "video",
    "videos",
];

/// Whether a column carries meaning, so that the user is told if it is not read.
pub(crate) fn is_meant(column: &str) -> bool {
    let lists: [&[&str]; 10] = [
        &CHATS,
        &EXTRAS,
        &COMPLETIONS,
        &SYSTEM,
        &INPUT,
        &WEIGHTS,
        &LABELS,
        &LOSS_MASKS,
        &PREFERENCES,
        MEANT,
    ];
    lists.iter().any(|names| names.contains(&column))
}
