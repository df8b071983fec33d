//! Plots on the road, on the water and with animals.

use super::Plot;

pub const HURT: Plot = &[
    &[
        "{open} {hero} found a {pet} {spot}.",
        "{open} {hero} was walking {at} when {he} heard a [small|strange|sad] sound. It was a {pet}.",
        "{open} {hero} and {friend} saw a {pet} {at}.",
        "there was a {pet} {at}, all alone. {Open} {hero} found it there.",
    ],
    &[
        "it had hurt its leg and could not {moves}.",
        "it was [cold|wet|lost] and very hungry.",
        "it was [afraid|very weak] and did not move.",
        "it had lost its mother.",
    ],
    &[
        "\"Do not be afraid,\" said {hero}. \"I will [help you|take care of you].\"",
        "{hero} gave it some [water|bread|milk] and carried it home.",
        "{hero} put {his} [coat|scarf] around it and took it home.",
        "{hero} [ran|went] home to ask {adult} what to do.",
    ],
    &[
        "{adult} made a [warm|soft] bed for it [near the fire|in a box|in the kitchen].",
        "it slept [by the fire|in a basket|beside {his} bed] all night.",
        "every day {he} gave it food and [sat beside it|told it a story].",
        "",
    ],
    &[
        "after [a week|a few days|three days] the {animal} could {moves} again.",
        "soon the {animal} was [well|strong] again.",
        "[day by day|little by little] the {animal} grew stronger.",
    ],
    &[
        "from that day on, the {animal} followed {hero} everywhere.",
        "{hero} opened the door, and the {animal} went back to the {place}.",
        "{hero} and the {animal} became the best of friends.",
        "it never forgot how kind {hero} had been.",
    ],
];

pub const STORM: Plot = &[
    &[
        "one [fine|warm|sunny] {day}, {hero} and {friend} {went} to the {place} to [play|look for {seen}|eat their lunch].",
        "one [fine|warm|sunny] {day}, {hero} took {his} {thing} and {went} to the {place} with {friend}.",
    ],
    &[
        "suddenly the sky turned [dark|black], and it began to rain.",
        "but then the wind grew stronger and [big drops began to fall|they heard thunder].",
        "they had just sat down when the rain began.",
    ],
    &[
        "\"Quick!\" [shouted|said] {friend}. \"Over there!\"",
        "they were wet and cold, and the way home was long.",
        "",
    ],
    &[
        "they ran to [an old barn|a small house|an old mill|a farm] and [waited|sat down] inside.",
        "they found [an old barn|a small house|an old mill] and ran inside.",
    ],
    &[
        "there was a {pet} inside, hiding from the rain too.",
        "{hero} told a funny story, and soon they forgot the storm.",
        "they ate the last of the bread and listened to the rain.",
        "an old [man|woman] lived there and gave them hot [soup|tea].",
    ],
    &[
        "when the rain stopped, there was a rainbow over the {place}.",
        "at last the sun came out again, and they walked home with wet feet.",
        "that evening they had a good story to tell.",
        "\"That was [fun|the best day of all],\" said {hero} on the way home.",
    ],
];

pub const HARBOUR: Plot = &[
    &[
        "{open} {hero} went [down to|to] the harbour to look at the ships.",
        "{open} {hero} and {friend} walked along the harbour.",
        "{open} a [big|black|strange] ship came into the harbour, and {hero} ran to see it.",
    ],
    &["{weather}", "", ""],
    &[
        "an old [sailor|captain|pirate] was sitting [on a barrel|beside his boat|on the wall].",
        "there {he} met an old [sailor|captain|pirate] with a [wooden leg|parrot|long white beard].",
        "on the deck of a ship stood [a captain|a sailor|a pirate] with a [parrot|big black hat|wooden leg].",
    ],
    &[
        "\"{greeting} {speech}\" [said|shouted] the old man.",
        "\"{speech} {speech}\" [said|shouted] the old man.",
        "\"{greeting} {speech} {speech}\" he [said|shouted].",
    ],
    &[
        "\"[What have you seen|Where have you been]?\" asked {hero}. \"{speech} {cheer}\" said the old man.",
        "\"[May I come with you|Will you take me with you]?\" asked {hero}. \"{speech} {cheer}\" he answered.",
        "{hero} [laughed|listened with wide eyes].",
        "\"You talk in a funny way,\" said {hero}. \"{speech}\" said the old man.",
    ],
    &[
        "in the evening {hero} went home and told {adult} about it.",
        "the old man laughed and gave {him} a [{thing}|gold coin|white shell].",
        "that night {hero} dreamed of the sea.",
        "",
    ],
];

/// A sailor tells of somebody, in the third person, as the fine-tuning set does.
pub const TALE: Plot = &[
    &[
        "{open} an old [sailor|captain|pirate] came to the {place} and told the children a story.",
        "{open} {hero} asked an old [sailor|captain|pirate] for a story.",
        "the old [sailor|captain|pirate] looked at {hero} and began his story.",
    ],
    &[
        "\"{yarn} {speech} {yarn}\"",
        "\"{greeting} {yarn} {yarn}\"",
        "\"{greeting} {speech} {yarn} {cheer}\"",
    ],
    &[
        "the children [laughed|clapped their hands|wanted to hear more].",
        "{hero} did not believe a word of it, but it was a good story.",
        "\"Is that true?\" asked {hero}. \"{speech}\" he answered.",
    ],
];

pub const FABLE: Plot = &[
    &[
        "once upon a time there was a {pet} who lived {at}.",
        "a {pet} lived {at}, all alone.",
        "{open} a {pet} left its home {at} to see the world.",
        "there was once a {pet} who was always [hungry|sad|afraid|tired].",
    ],
    &[
        "every day it looked for [food|a friend|a new home], but it found nothing.",
        "it had no [friends|house|food], and the nights were [cold|long].",
        "",
    ],
    &[
        "then it met a [big|old|friendly|hungry] {other}.",
        "one {wx} {day}, it met a [big|old|friendly|hungry] {other}.",
        "there came a [big|old|friendly|hungry] {other}.",
    ],
    &[
        "\"Where are you going?\" asked the {other}. \"I am looking for [a home|food|a friend],\" said the {animal}.",
        "\"Why are you [so sad|crying]?\" asked the {other}. \"I am [hungry|lost|all alone],\" said the {animal}.",
        "\"[This is my place|Go away]!\" said the {other}. \"Please let me stay,\" said the {animal}. \"I am [tired|cold].\"",
        "\"Who are you?\" asked the {other}. \"I am only a [poor|small] {animal},\" was the answer.",
    ],
    &[
        "\"Come with me,\" said the {other}. \"There is room for two.\"",
        "the {other} thought for a while. Then it said, \"[We can help each other|Two are better than one].\"",
        "so the {animal} and the {other} went on together.",
        "\"Let us go to the {place},\" said the {animal}. \"We will find something there.\"",
    ],
    &[
        "they found [{seen}|a warm place] and [sat down to rest|were very glad].",
        "in the evening they sat {spot} and looked at the moon.",
        "they shared [the last apple|a piece of bread|all they had].",
        "",
    ],
    &[
        "from that day on, they lived together {at}.",
        "and they were friends for [many years|the rest of their lives].",
        "now neither of them was alone.",
        "so the {animal} had [found|made] a friend.",
    ],
];

pub const VISIT: Plot = &[
    &[
        "{open} {hero} set out to see {adult}.",
        "{open} {hero} took a basket with [bread and cheese|apples and eggs|a cake] to {adult}.",
        "{adult} lived far away, [behind the hill|near the sea|on the other side of the forest]. {Open} {hero} set out to visit.",
    ],
    &["{weather}", "{weather}", ""],
    &[
        "on the way {he} [met|saw] a {pet} {at}.",
        "{he} went over the bridge and past the old mill.",
        "{he} stopped {at} to look at the {seen}.",
        "{he} took the wrong path and came to the {place}.",
    ],
    &[
        "\"Which way is it?\" {he} asked a farmer. \"Go straight on,\" said the farmer.",
        "{he} sang a song, and the way was not so long.",
        "{his} feet were tired, but {he} did not stop.",
        "",
    ],
    &[
        "{adult} was waiting at the door.",
        "when {he} came to the house, there was a light in the window.",
        "\"How you have grown!\" said {adult}.",
    ],
    &[
        "they sat by the fire and [talked|told stories|ate soup] until late.",
        "there was hot [soup|tea] on the table and a soft bed in the next room.",
        "{hero} stayed for [two days|a week] and did not want to go home.",
    ],
];

pub const RACE: Plot = &[
    &[
        "{open} the {animal} and the {other} wanted to know who was faster.",
        "\"I am the fastest of all,\" said the {animal}. \"No, I am,\" said the {other}.",
        "{open} there was a race {at}.",
    ],
    &[
        "{hero} and {friend} came to watch.",
        "all the animals came to the {place}.",
        "the {place} was full of animals.",
    ],
    &[
        "\"One, two, three!\" [shouted|called] {hero}, and off they went.",
        "the {other} ran as fast as it could.",
        "at first the {other} was in front.",
    ],
    &[
        "but the {other} [stopped to eat|fell asleep|looked back] and lost time.",
        "then the {animal} fell down, and the {other} stopped to help.",
        "they ran past the barn, over the bridge and up the hill.",
    ],
    &[
        "in the end they [came in|reached the tree] at the same time.",
        "the {animal} won the race and was very proud.",
        "the {other} won, but it was not [loud|proud] about it.",
    ],
    &[
        "\"You ran well,\" said the {other} to the {animal}.",
        "then they all ate [apples|{cake}] together.",
        "\"Let us run again tomorrow!\" they said.",
        "it does not matter who is first when you have a friend.",
    ],
];

pub const FISHING: Plot = &[
    &[
        "{open} {hero} went fishing with {adult}.",
        "{open} {hero} and {friend} sat by the [river|lake] to catch fish.",
    ],
    &[
        "{weather}",
        "{weather}",
        "they sat in the boat and did not speak.",
    ],
    &[
        "for a long time nothing happened.",
        "{he} caught [an old shoe|a hat|a wet scarf], but no fish.",
        "\"You have to be quiet,\" was the rule, but {hero} had so many questions.",
    ],
    &[
        "then something pulled [at the line|hard]!",
        "suddenly the line moved.",
    ],
    &[
        "{he} pulled and pulled, and out of the water came a big [silver|green] fish.",
        "it was so strong that {hero} fell into the water.",
        "\"Hold on!\" they shouted, and {he} held on.",
    ],
    &[
        "\"Please let me go,\" said the fish, and {hero} let it go.",
        "but {he} put it back and watched it swim away.",
        "they ate it for supper, and a {pet} got the rest.",
        "on the way home it grew bigger and bigger in {his} story.",
    ],
];

pub const STREAM: Plot = &[
    &[
        "{hero} made a little boat out of [paper|wood] and put it on the river.",
        "{open} {hero} built a little boat out of [paper|wood].",
        "{open} {hero} and {friend} put a little boat on the water.",
    ],
    &[
        "it had a [red|white|blue] sail and [the name {hero}|the name {friend}] on its side.",
        "\"[Good luck|Have a good trip]!\" {he} shouted.",
        "the wind took it, and away it went.",
    ],
    &[
        "it went under the bridge and past the old mill.",
        "a {animal} looked at it and [ran away|wondered what it was].",
        "{he} ran beside it as far as {he} could.",
        "it went over the big stones and did not sink.",
    ],
    &[
        "in the end it came to the sea.",
        "then it was gone, and {hero} was a little sad.",
        "a {child} far away found it {spot}.",
    ],
    &[
        "\"Perhaps it will come back one day,\" said {adult}.",
        "\"It will see the whole world,\" said {friend}.",
        "the next day {he} made another one.",
        "sometimes {he} still thinks of it.",
    ],
];

pub const WALK: Plot = &[
    &[
        "{open} {hero} {went} to the {place}.",
        "{open} {hero} took {his} {thing} and {went} to the {place}.",
        "{open} {hero} and {friend} {went} to the {place}.",
        "{open} {hero} {went} to the {place} because {he} [wanted to see the {seen}|had nothing to do|was looking for {friend}].",
        "when {hero} woke up, {weather}",
    ],
    &[
        "{weather}",
        "{he} had [some bread|an apple|a {find}] in {his} bag.",
        "",
    ],
    &[
        "{he} saw {seen} {at} and [stopped to look|was {glad}].",
        "{hero} wanted to find {seen}[ for {adult}| to take home|].",
        "{hero} sat down [on a stone|for a while] and looked at the {seen}.",
        "there were {seen} {at}, and {he} [liked|loved] them.",
        "when {he} came to the {place}, {he} saw {seen}.",
    ],
    &[
        "a {pet} came [out of a bush|closer] and looked at {him}. \"Hello,\" said {hero}.",
        "there {he} met {adult}. \"What are you doing here?\" asked {hero}. \"I was looking for you,\" was the answer.",
        "then {he} found a {find} {spot}. It was {friend} who had lost it.",
        "suddenly {he} heard a sound behind {him}. It was a {pet} that [wanted to play|was hungry|had followed {him}].",
    ],
    &[
        "they [talked|played|walked] for an hour and forgot the time.",
        "they sat down {spot} and [ate|shared] a piece of bread.",
        "\"Come home with me,\" said {hero}, and they went home together.",
        "",
    ],
    &[
        "in the evening {he} was tired but {glad}.",
        "when it grew dark, {hero} went home.",
        "{he} wanted to come back the next day.",
        "\"What a [good|strange|wonderful] day!\" said {hero}.",
    ],
];
