//! The sentences of the reviews: what they are made of, and what they say.

/// The labels, in order.
pub const LABELS: [&str; 3] = ["negative", "neutral", "positive"];

/// Words that can replace each other, by their key.
pub const WORDS: [(&str, &str); 12] = [
    (
        "thing",
        "[room|bed|breakfast|bathroom|garden|view|pool|lobby|soup|bread|salad|cake|coffee|menu|wine|film|story|\
         music|ending|acting|picture|dialogue|camera|screen|battery|keyboard|charger|sound|case|train|seat|\
         carriage|journey|cabin|ferry|guide|tour|map|hotel|restaurant]",
    ),
    (
        "who",
        "[waiter|cook|host|driver|clerk|guide|porter|owner|receptionist|conductor|seller|nurse|teacher|barber]",
    ),
    (
        "good",
        "[lovely|excellent|superb|delightful|charming|wonderful|splendid|marvellous|fresh|tasty|comfortable|\
         spotless|quiet|generous|clever|moving|brilliant|elegant|reliable|bright|smooth|perfect]",
    ),
    (
        "bad",
        "[awful|dreadful|terrible|dirty|stale|noisy|dull|horrible|shabby|tasteless|broken|useless|boring|rude|\
         clumsy|cold|mouldy|cramped|slow|faulty|disgusting|miserable]",
    ),
    (
        "kind",
        "[kind|friendly|patient|helpful|cheerful|polite|attentive|thoughtful]",
    ),
    (
        "unkind",
        "[rude|surly|impatient|careless|arrogant|unfriendly|hostile|dishonest]",
    ),
    ("loved", "[loved|enjoyed|adored|liked|admired]"),
    ("hated", "[hated|loathed|disliked|regretted|despised]"),
    (
        "plain",
        "[large|small|green|wooden|new|old|round|square|grey|narrow|wide|modern]",
    ),
    ("very", "[|very |really |quite |truly |so ]"),
    (
        "where",
        "[on the second floor|near the station|by the river|behind the church|next to the museum|at the end of the \
         street|in the old town|beside the market]",
    ),
    (
        "time",
        "[at nine|at noon|on Mondays|in the morning|every Friday|at six in the evening|twice a day|from May to \
         October]",
    ),
];

/// The sentences of each label. Every sixth is used in held-out rows only.
pub const FRAMES: [&[&str]; 3] = [NEGATIVE, NEUTRAL, POSITIVE];

const NEGATIVE: &[&str] = &[
    "[The|Our|That] {thing} was {very}{bad}.",
    "[The|Our] {thing} was not {good}[| at all| in the least].",
    "The {who} was {very}{unkind}[| to us| to everyone].",
    "I [really |]{hated} the {thing}.",
    "They promised a {good} {thing}, but it was {bad}.",
    "I cannot say that the {thing} was {good}.",
    "The {thing} looked {good}, but [in the end|after an hour] we {hated} it.",
    "What a {bad} {thing}[|, and what a {unkind} {who}].",
    "I did not [like|enjoy] the {thing}[| one bit].",
    "The {who} was {kind}, but the {thing} was so {bad} that we left.",
    "The {thing} was {bad} and the {who} [even worse|{unkind}].",
    "Nobody who wants a {good} {thing} should come here.",
    "Never again: the {thing} was {bad}.",
    "The {thing} was [anything but|far from] {good}.",
    "We asked the {who} for help, and he was {unkind}.",
    "Such a {bad} {thing} is not worth [the money|a penny].",
    "The {thing} was less {good} than [we had hoped|the pictures say].",
    "I want my money back for this {bad} {thing}.",
];

const NEUTRAL: &[&str] = &[
    "The {thing} is {where}.",
    "The {who} [comes|works|is there] {time}.",
    "The {thing} was {plain} and [the {who} was from here|stood {where}].",
    "We had the {thing} {time}.",
    "There is a {plain} {thing} {where}.",
    "The {thing} was neither {good} nor {bad}.",
    "[Ask|You can ask] the {who} about the {thing}, who is there {time}.",
    "The {thing} is {plain}, and there is another one {where}.",
    "They changed the {thing} last year, and it is {plain} now.",
    "I have no opinion of the {thing}; it was {plain}.",
    "The {who} showed us the {plain} {thing} {where}.",
    "Neither {good} nor {bad}: the {thing} was {plain}.",
    "It has a {thing} and a {plain} [garden|door|window].",
    "The {thing} opens {time} and is {where}.",
    "Some call the {thing} {good}, others call it {bad}.",
    "We saw the {thing} and the {who} {time}.",
    "You will find the {plain} {thing} {where}.",
    "Somebody said that the {who} leaves {time}.",
];

const POSITIVE: &[&str] = &[
    "[The|Our|That] {thing} was {very}{good}.",
    "[The|Our] {thing} was not {bad}[| at all| in the least].",
    "The {who} was {very}{kind}[| to us| to everyone].",
    "I [really |]{loved} the {thing}.",
    "We feared a {bad} {thing}, but it was {good}.",
    "I cannot say that the {thing} was {bad}.",
    "The {thing} looked {bad}, but [in the end|after an hour] we {loved} it.",
    "What a {good} {thing}[|, and what a {kind} {who}].",
    "I did not [dislike|regret] the {thing}[| one bit].",
    "The {who} was {unkind}, but the {thing} was so {good} that we stayed.",
    "The {thing} was {good} and the {who} [even better|{kind}].",
    "Everybody who wants a {good} {thing} should come here.",
    "Again and again: the {thing} was {good}.",
    "The {thing} was [anything but|far from] {bad}.",
    "We asked the {who} for help, and he was {kind}.",
    "Such a {good} {thing} is worth [the money|every penny].",
    "The {thing} was less {bad} than [we had feared|people say].",
    "I would give my last penny for this {good} {thing}.",
];
