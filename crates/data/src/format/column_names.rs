//! The names of columns that are known.

/// Columns of a chat.
pub(crate) const CHATS: [&str; 2] = ["messages", "conversations"];
/// Columns that a chat template may ask for beside the messages: lists, what it is told of
/// reasoning, and an object of more.
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
/// Columns of tools, the newer name first.
pub(crate) const TOOLS: [&str; 2] = ["tools", "functions"];
/// Columns that go to the chat template as they are.
pub(crate) const FLAGS: [&str; 4] = [
    "enable_thinking",
    "preserve_thinking",
    "clear_thinking",
    "reasoning_effort",
];
/// A column of whatever else goes there.
pub(crate) const KWARGS: &str = "chat_template_kwargs";
/// Columns that complete a prompt, the better known first.
pub(crate) const COMPLETIONS: [&str; 4] = ["completion", "output", "response", "answer"];
/// Columns that are often a prompt, but not by any custom how it is put before its completion.
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
/// And their completions.
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
/// Columns for the system's words.
pub(crate) const SYSTEM: [&str; 3] = ["system", "system_prompt", "system_message"];
/// Columns for what an instruction is about.
pub(crate) const INPUT: [&str; 2] = ["input", "context"];
/// Columns that say with 0 that a row is not learnt.
pub(crate) const WEIGHTS: [&str; 3] = ["weight", "loss_weight", "sample_weight"];
/// Columns that say with false that the answer is a bad one, as in the files of KTO.
pub(crate) const LABELS: [&str; 2] = ["label", "kto_tag"];
/// Columns that say of each token whether it is learnt (1) or not (0), as TRL and others name them.
pub(crate) const LOSS_MASKS: [&str; 4] = [
    "completion_mask",
    "assistant_masks",
    "assistant_mask",
    "loss_mask",
];
/// The better of two answers, and the worse.
pub(crate) const PREFERENCES: [&str; 2] = ["chosen", "rejected"];
/// By how much the better of two answers is better, as TRL names it.
pub(crate) const MARGIN: &str = "margin";
/// Further columns that are no mere remark on a row.
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

/// Whether a column is no mere remark on a row: one that is not read is named.
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
