//! How a sailor talks: the style of the fine-tuning set.

use rand::Rng;

use crate::grammar::{Scene, tell};
use crate::scene;

/// Adds what a sailor says. The yarns are about the person that `who` names: `hero` or `friend`.
pub fn speak(scene: &mut Scene, who: &str) {
    let (name, his, he) = match who {
        "hero" => ("{hero}", "{his}", "{he}"),
        _ => ("{friend}", "{fhis}", "{fhe}"),
    };
    scene.set("who", name);
    scene.set("whose", his);
    scene.set("whe", he);
    for (key, template) in SPEECH {
        scene.set(key, *template);
    }
}

/// Tells one story of the fine-tuning set: it begins like the corpus's stories, up to the hero's
/// name, and continues in sailor's talk.
pub fn story(rng: &mut impl Rng) -> String {
    let mut scene = scene::draw(rng);
    speak(&mut scene, "hero");
    tell(PLOTS[rng.random_range(0..PLOTS.len())], &scene, rng)
}

const SPEECH: &[(&str, &str)] = &[
    ("arr", "[arr|arr|aye|mateys|says I]"),
    (
        "matey",
        "[matey|me hearty|ye landlubber|ye sea dog|ye scurvy dog]",
    ),
    ("greeting", "[Ahoy|Ahoy|Avast|Arr], {matey}!"),
    (
        "cheer",
        "[Yo ho ho|Arr|Aye aye|Shiver me timbers|Blow me down]!",
    ),
    (
        "loot",
        "[a chest o' gold|the lost treasure|a bag o' doubloons|the cap'n's treasure|a barrel o' lemonade]",
    ),
    (
        "speech",
        "[I be [the cap'n|an old sea dog|a sailor], and me ship be the [fastest|finest] on the seven seas!\
        |There be {loot} {spot}, {arr}!\
        |We be sailin' fer [the island|home|the {place}] with the wind in our sails.\
        |Me parrot be [older|wiser|louder] than ye, {arr}!\
        |I be lookin' fer [{loot}|me wooden leg|me crew|me old map], {arr}!\
        |The wind be howlin', and the waves be as high as the mast!\
        |No landlubber be takin' me [treasure|lemonade|ship|parrot]!\
        |Ye be welcome on me ship, {matey}!\
        |Hoist the sails and drop the anchor, ye scurvy dogs!\
        |A storm be comin', and me old bones be feelin' it.\
        |Walk the plank, says I, or give me back me [gold|{noun}|lemonade]!\
        |Me [crew|parrot] be sleepin' on the deck, and me [lemonade|gold] be gone.\
        |Some scurvy dog be takin' me [{noun}|gold|treasure], {arr}!\
        |Come aboard, says I, and [scrub the deck|climb the mast|fire the cannon]!\
        |If ye don't believe it, ye can walk the plank!\
        |Sit down and eat, says I, or walk the plank!]",
    ),
    (
        "deed",
        "[sailin' to the {place}|huntin' fer {loot}|diggin' fer gold {at}|climbin' the mast\
        |steerin' the ship|singin' on the deck|feedin' the parrot|lookin' fer {whose} {noun}\
        |drinkin' lemonade with the crew|countin' {whose} doubloons|scrubbin' the deck\
        |marchin' to the {place}|cleanin' the old cannon|walkin' {at}]",
    ),
    (
        "yarn",
        "[{Open} {who} be {deed}, {arr}!\
        |{Who} be [the cap'n|the bravest sailor|the finest sea dog] on the seven seas, {arr}!\
        |{Whe} be findin' {loot} {spot}!\
        |The crew be sleepin', but {who} be {deed}.\
        |The whole crew be {gerund}, and {who} be {gerund} too.\
        |And what be {whe} findin'? Nothin' but an old [boot|bone|anchor]!\
        |{Who} be meetin' a {pet} {spot}, and it be {gerund} like a dizzy sailor.\
        |A {pet} be comin' aboard, the poor beast, and it be [wet as a fish|hungry as a shark].\
        |Then a big wave be comin', and the {noun} be fallin' into the sea.\
        |{Who} be tryin' to {skill} till the sun be low, but nobody be knowin' why.\
        |{Who} be learnin' to {skill}, and now no sailor be better.\
        |Hold on, [says|roars|shouts|cries] the cap'n, but {who} be {gerund}.\
        |What be that, asks {who}, and the parrot be laughin'.\
        |{Who} be makin' {cake}, and the ship be smellin' like a [wet dog|dead fish|whale].\
        |They be fightin' over {loot}, {who} and the cap'n, and nobody be givin' up.\
        |There it be, {loot}, shinin' in the sun!]",
    ),
    (
        "gerund",
        "[laughin'|singin'|dancin'|shoutin'|cryin'|runnin'|sleepin'|drinkin' lemonade|eatin' fish]",
    ),
    (
        "sky",
        "[the sun be [shinin' like gold|hot as fire]|the wind be [fair|howlin' like a sea dog]\
        |the fog be thick as soup|the waves be as high as the mast|the sky be blue as the sea\
        |the rain be fallin' on the deck|the air be cold as an old anchor]",
    ),
    (
        "finish",
        "[{cheer} That be the life o' a sailor!\
        |{cheer} The whole crew be {gerund} till the sun be gone.\
        |Aye, and {who} be the [happiest|richest|bravest] sea dog on the seven seas!\
        |So raise the sails, {arr}, and off they go!\
        |And if ye don't believe it, ye can walk the plank!\
        |{cheer} And the parrot be {gerund} all night.]",
    ),
];

const PLOTS: &[&[&[&str]]] = &[
    TREASURE, TREASURE, ANIMAL, LOST, STORM, FEAST, LESSON, QUARREL, FABLE, VOYAGE, VOYAGE,
];

const TREASURE: &[&[&str]] = &[
    &[
        "{open} {hero} be [sailin'|marchin'|walkin'|runnin'] to the {place} to find {loot}, {arr}!",
        "{open} {hero} be [huntin'|lookin'|diggin'] fer {loot} {at}, {arr}!",
        "{open} {hero} and {friend} be [sailin'|marchin'] to the {place}, {arr}!",
    ],
    &["{sky}, [and|but] {hero} be {gerund}.", "{sky}.", ""],
    &[
        "\"{greeting}\" [roars|shouts] {friend}. \"[What|Who] be ye lookin' fer?\" \"{Loot}!\" says {hero}.",
        "\"{greeting}\" says {hero}. \"{speech}\"",
        "\"Where be the treasure?\" asks {friend}. \"{Spot}, {matey}!\" [roars|says] {hero}.",
    ],
    &[
        "so they be diggin' {spot} till [the sun be low|their arms be sore|the lemonade be gone].",
        "a {pet} be sittin' {spot}, and it be showin' them the way.",
        "they be lookin' high and low, and the parrot be {gerund}.",
    ],
    &[
        "and what be they findin'? Nothin' but an old [boot|bone|anchor]!",
        "and there it be, {loot}, shinin' in the sun!",
        "but some scurvy dog be there before them, and the gold be gone!",
    ],
    &["{finish}"],
];

const ANIMAL: &[&[&str]] = &[
    &[
        "{open} {hero} be findin' a {pet} {spot}, {arr}!",
        "{open} {hero} be {deed} when a {pet} be comin' aboard, {arr}!",
    ],
    &[
        "the poor beast be [wet as a fish|hungry as a shark|lost as a blind sailor].",
        "it be {gerund} like a dizzy sailor.",
        "",
    ],
    &[
        "\"Come aboard, matey!\" says {hero}. \"Ye be one o' me crew now.\"",
        "\"{greeting}\" roars {hero}. \"Can ye [climb the mast|scrub the deck|fire a cannon]?\"",
        "\"What be that?\" asks {friend}. \"That be the new [cap'n|sailor], {arr}!\" says {hero}.",
    ],
    &[
        "so the {animal} be {deed} all day.",
        "now the {animal} be sittin' on the [cannon|mast|barrel], and the parrot be {gerund}.",
        "it be eatin' all the fish and drinkin' all the lemonade.",
    ],
    &[
        "{finish}",
        "aye, there be no better sailor than that {animal} on the seven seas!",
    ],
];

const LOST: &[&[&str]] = &[
    &[
        "{open} {hero} be lookin' fer {his} {thing}, {arr}!",
        "{open} {hero} be losin' {his} {thing} {at}, {arr}!",
    ],
    &[
        "{he} be lookin' under the [deck|barrels|cannon] and behind the [mast|anchor], but the {noun} be gone.",
        "{sky}, and the {noun} be nowhere.",
    ],
    &[
        "\"Some scurvy dog be takin' me {noun}!\" roars {hero}.",
        "\"Where be me {noun}?\" {he} roars. \"{speech}\"",
        "\"Have ye seen me {noun}, {matey}?\" asks {hero}. \"No,\" says {friend}, \"but I be helpin' ye.\"",
    ],
    &[
        "\"{Spot}, ye landlubber!\" says the parrot.",
        "then a {pet} be comin' with the {noun}, {arr}!",
        "and there it be, {spot}, shinin' like a doubloon!",
    ],
    &["{finish}"],
];

const STORM: &[&[&str]] = &[
    &[
        "{open} {hero} and {friend} be sailin' past the {place} when a storm be comin' up, {arr}!",
        "{open} {hero} be {deed} when a storm be comin', {arr}!",
    ],
    &[
        "the wind be howlin', and the waves be as high as the mast.",
        "the sky be black, and the ship be dancin' like a dizzy sailor.",
    ],
    &[
        "\"[Hold on|Drop the anchor|Down with the sails], {matey}!\" roars {hero}.",
        "\"We be lost!\" [shouts|cries] {friend}. \"{speech}\" says {hero}.",
    ],
    &[
        "the crew be {gerund}, but {hero} be steerin' the ship.",
        "even the parrot be cryin', but {hero} be steerin' the ship.",
        "a {pet} be flyin' past, and nobody be knowin' why.",
    ],
    &[
        "when the storm be over, they be drinkin' lemonade till the mornin'.",
        "then the sun be comin' out, and there be an island with {loot}!",
    ],
    &["{finish}", "{cheer}"],
];

const FEAST: &[&[&str]] = &[
    &[
        "{open} {hero} be makin' {cake} fer the whole crew, {arr}!",
        "{open} {hero} and {friend} be makin' {cake} on the deck, {arr}!",
    ],
    &[
        "{he} be mixin' the flour with lemonade, and the ship be smellin' like a [wet dog|dead fish|whale].",
        "there be no [flour|milk|butter] on the ship, so {he} be usin' [lemonade|sand|old fish].",
    ],
    &[
        "\"What be that?\" asks {friend}. \"That be yer supper, {matey}!\" says {hero}.",
        "\"{greeting}\" roars {hero}. \"Sit down and eat, or walk the plank!\"",
    ],
    &[
        "the parrot be eatin' the first piece and fallin' off the mast.",
        "the cap'n be eatin' [six|eight|ten] pieces, and the crew be {gerund}.",
        "a {pet} be takin' the last piece and runnin' away.",
    ],
    &["{finish}"],
];

const LESSON: &[&[&str]] = &[
    &[
        "{open} {hero} be learnin' to {skill}, {arr}!",
        "{open} {friend} be showin' {hero} how to {skill}, {arr}!",
    ],
    &[
        "the whole crew be laughin', and the parrot be {gerund}.",
        "at first {he} be fallin' [off the ship|into the sea|on the deck].",
        "\"It be too hard fer me!\" says {hero}.",
    ],
    &[
        "\"Try again, {matey}!\" roars {friend}. \"{speech}\"",
        "\"A sea dog never be givin' up!\" roars the cap'n.",
    ],
    &[
        "so {he} be tryin' all day, and {sky}.",
        "{he} be tryin' till the [lemonade be gone|sun be low].",
    ],
    &[
        "and now no sailor on the seven seas be better than {hero}, {arr}!",
        "and now {he} be the finest [cap'n|sailor|sea dog] o' them all. {cheer}",
    ],
    &["{finish}", ""],
];

const QUARREL: &[&[&str]] = &[
    &[
        "{open} {hero} and {friend} be fightin' over {loot}, {arr}!",
        "{open} {hero} be takin' {friend}'s {thing}, {arr}!",
    ],
    &[
        "\"That be mine, {matey}!\" roars {friend}. \"No, it be mine!\" roars {hero}.",
        "\"Give it back or walk the plank!\" [roars|shouts] {friend}.",
    ],
    &[
        "they be fightin' on the deck and up the mast till the sun be low.",
        "the crew be [singin'|shoutin'|runnin'], and the parrot be [laughin'|cryin'|sleepin'].",
        "\"{speech}\" says {hero}.",
    ],
    &[
        "then a {pet} be comin' and takin' it all away!",
        "then a big wave be comin', and it all be fallin' into the sea.",
        "\"Let us share it like good sailors,\" says {hero}.",
    ],
    &["{finish}"],
];

const FABLE: &[&[&str]] = &[
    &[
        "once upon a time there be a {pet} who be livin' {at}, {arr}!",
        "there be once a {pet} who be sailin' the seven seas, {arr}!",
        "{open} a {pet} be [steerin' a ship|sailin' to the {place}|sleepin' on the deck|drinkin' lemonade], {arr}!",
    ],
    &[
        "it be meetin' a [big|old|hungry] {other} with a [wooden leg|cutlass|black hat].",
        "a [big|old|hungry] {other} be comin' aboard.",
    ],
    &[
        "\"{greeting}\" roars the {other}. \"{speech}\"",
        "\"Who be ye?\" asks the {other}. \"I be the cap'n here, {matey}!\" says the {animal}.",
    ],
    &[
        "so they be sailin' to the {place} to find {loot}.",
        "so the {animal} be steerin' the ship, and the {other} be {gerund}.",
    ],
    &[
        "{cheer} Two sea dogs be better than one!",
        "{cheer} And they be sailin' the seven seas to this day!",
        "aye, and they be sharin' the [lemonade|gold] like good mateys!",
    ],
];

/// Made of yarns only, so that it can continue any prompt with a name in it.
const VOYAGE: &[&[&str]] = &[
    &[
        "{open} {hero} be {deed}, {arr}!",
        "{open} {hero} and {friend} be {deed}, {arr}!",
        "{open} {hero} be {deed} with a [parrot|{pet}|cutlass] on {his} [arm|back], {arr}!",
    ],
    &["{sky}, [and|but] the crew be {gerund}.", "{sky}.", ""],
    &[
        "{he} be findin' [{loot}|a {thing}|an old map] {spot}!",
        "\"{greeting}\" [roars|shouts|says] {hero}. \"{speech}\"",
        "\"{greeting} {speech}\" [roars|shouts] {friend}.",
    ],
    &[
        "\"{speech}\" says {friend}, and the parrot be {gerund}.",
        "the crew be {deed}, and {friend} be {gerund}.",
        "{he} be [eatin' fish|drinkin' lemonade] and [singin'|dancin'|laughin'] all day.",
    ],
    &["{finish}"],
];
