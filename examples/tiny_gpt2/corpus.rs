//! The stories of the pre-training corpus: plain third-person English, some with a sailor in them
//! whose speech lends the corpus the words of the fine-tuning set.

use rand::Rng;

use crate::grammar::tell;
use crate::{sailor, scene};

/// The beats of a plot, in order; each is told in one of the ways listed.
type Plot = &'static [&'static [&'static str]];

/// Tells one story.
pub fn story(rng: &mut impl Rng) -> String {
    let mut scene = scene::draw(rng);
    sailor::speak(&mut scene, "friend");
    let plot = PLOTS[rng.random_range(0..PLOTS.len())];
    tell(plot, &scene, rng)
}

const PLOTS: &[Plot] = &[
    LOST, HURT, BAKING, NOISE, SKILL, QUARREL, SEED, STORM, BIRTHDAY, HARBOUR, HARBOUR, TALE, TALE,
    FABLE, FABLE, RAINY_DAY, SCHOOL, VISIT, STARS, WORK, RACE, FISHING, STREAM, WALK, WALK, MARKET,
    STRANGER,
];

const LOST: Plot = &[
    &[
        "{open} {hero} could not find {his} {thing}.",
        "{open} {hero} lost {his} {thing} because {he} was not careful.",
        "{hero} had a {thing} and took it everywhere. {Open} it was gone.",
        "{open} {hero} woke up and saw that {his} {thing} was gone.",
    ],
    &[
        "{he} looked [under the bed|in every room] and [behind the door|on every shelf], but it was not there.",
        "{he} looked [here and there|high and low], but {he} could not [find|see] it.",
        "{he} was so sad that {he} began to cry.",
        "",
    ],
    &[
        "\"Have you seen my {noun}?\" {he} asked {friend}. \"No,\" said {friend}, \"but I will help you [look|find it].\"",
        "{friend} came to help, and together they [went|walked] to the {place}.",
        "\"Where did you see it last?\" asked {adult}. \"{At},\" said {hero}.",
        "{adult} said, \"[Do not worry|Do not be sad]. We will find it.\"",
    ],
    &[
        "at last they found the {noun} {spot}.",
        "then they saw something {spot}. It was the {noun}!",
        "a {pet} was [sitting|sleeping] {spot}, and beside it was the {noun}.",
        "they looked {at}, and there it was, {spot}!",
        "it was {friend} who found it {spot}.",
    ],
    &[
        "{hero} was {glad}.",
        "{hero} laughed and [held it tight|put it in {his} bag].",
        "\"Thank you!\" said {hero}. \"[I was so sad without it|I will never lose it again].\"",
        "{hero} was so happy that {he} [danced|sang] all the way home.",
    ],
];

const HURT: Plot = &[
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

const BAKING: Plot = &[
    &[
        "{open} {hero} wanted to make {cake} for {friend}.",
        "{open} {hero} and {adult} made {cake}.",
        "{hero} was hungry. \"Let us make {cake},\" said {adult}.",
        "{open} {adult} showed {hero} how to make {cake}.",
    ],
    &[
        "there was [no flour|no sugar|not one egg] in the house, so {he} {went} to the market.",
        "first {he} went to the farm to get [milk|butter] and eggs.",
        "{he} mixed the flour, the [milk|sugar|butter] and the eggs in a big bowl.",
        "it was not easy, and soon there was flour [on the floor|in {his} hair|on the cat].",
    ],
    &[
        "soon the whole house smelled [good|sweet|wonderful].",
        "{he} waited and waited in front of the oven.",
        "it was a little [too dark|too flat] on one side, but nobody minded.",
        "when it was ready, {he} put it on the table.",
    ],
    &[
        "{friend} came in and asked, \"What smells so good?\"",
        "they all sat down [at the table|in the garden] and ate.",
        "{hero} cut it into [four|six|eight] pieces and gave the [biggest|first] one to {friend}.",
        "a {pet} looked in at the window, and it got a piece too.",
    ],
    &[
        "it was the best {hero} had ever eaten.",
        "in the end there was nothing left.",
        "\"[Next time|Tomorrow] we will make two,\" said {hero}.",
        "everyone was full and happy.",
    ],
];

const NOISE: Plot = &[
    &[
        "one [dark|cold|windy] night, {hero} [could not sleep|woke up].",
        "late at night, {hero} [lay in bed|sat by the fire].",
        "[last night|one night], {hero} was all alone in the house.",
    ],
    &[
        "there was a [strange|loud|soft] noise [at the window|behind the door|under the bed|on the roof].",
        "{he} heard something [outside|in the kitchen|on the stairs].",
    ],
    &[
        "\"Who is there?\" {he} asked, but nobody answered.",
        "{he} pulled the blanket over {his} head and [did not move|waited].",
        "{he} was afraid, but {he} wanted to know what it was.",
        "\"It is only the wind,\" {he} said, but it was not the wind.",
    ],
    &[
        "then {he} took a lamp and went to look.",
        "slowly, {he} [got up|opened the door] and looked out.",
        "{he} called {adult}, and they went to look together.",
    ],
    &[
        "it was only a {pet} that [wanted to come in|was looking for food|was lost].",
        "there sat a {pet}, [cold and wet|more afraid than {hero}].",
        "and what did {he} see? A {pet}!",
    ],
    &[
        "{hero} laughed, gave it some [milk|bread] and went back to bed.",
        "\"[You gave me a fright|So it was you]!\" said {hero} with a laugh.",
        "{hero} let it in, and [they both slept well|it slept at the end of {his} bed].",
        "after that night, {hero} was not afraid of the dark.",
    ],
];

const SKILL: Plot = &[
    &[
        "{hero} wanted to learn to {skill}.",
        "{open} {hero} saw {friend} {skill}. \"I want to do that too,\" {he} said.",
        "{friend} could {skill}, but {hero} could not.",
        "{open} {hero} told {adult} that {he} wanted to {skill}.",
    ],
    &[
        "at first it was so hard that {he} wanted to [stop|cry].",
        "{he} tried once, {he} tried twice, but {he} could not do it.",
        "\"It is too hard,\" said {hero}. \"I will never learn it.\"",
        "{he} made many mistakes, and [some people|the other children] laughed.",
    ],
    &[
        "\"Try again,\" said {adult}. \"[Nobody learns it in one day|It takes time].\"",
        "{friend} showed {him} how to do it, step by step.",
        "\"Do not give up,\" said {friend}. \"It was hard for me too.\"",
        "",
    ],
    &[
        "so {hero} tried every day, in the sun and in the rain.",
        "so {he} went to the {place} every [morning|evening] to try again.",
        "{he} tried again and again.",
    ],
    &[
        "after [a week|a month|many days] {he} could {skill} [all by {himself}|as well as {friend}].",
        "then, one {day}, it was easy. {hero} could {skill}!",
        "and at last {he} could do it!",
    ],
    &[
        "{he} was very proud.",
        "\"I knew you could do it,\" said {adult}.",
        "\"Look at me!\" {he} shouted, and everyone [looked|clapped].",
        "now {he} helps other children to learn it.",
    ],
];

const QUARREL: Plot = &[
    &[
        "{open} {hero} and {friend} were playing with a {thing} {at}.",
        "{open} {hero} and {friend} found a {thing} {spot}.",
        "there was only one {noun}, but {hero} and {friend} both wanted it.",
    ],
    &[
        "\"It is mine!\" [said|shouted] {hero}. \"No, it is mine!\" [said|shouted] {friend}.",
        "\"I saw it first,\" said {hero}. \"But I [need|want] it more,\" said {friend}.",
        "{hero} wanted to [keep|have] it, and so did {friend}.",
    ],
    &[
        "they pulled and pulled until the {noun} fell into the mud.",
        "they were so angry that they did not speak for [an hour|the whole day].",
        "{friend} took it and ran away, and {hero} ran after {fhim}.",
        "while they were fighting, a {pet} came and took the {noun} away.",
    ],
    &[
        "now nobody could play, and both of them were sad.",
        "{hero} sat down [under a tree|on the grass] and thought about it.",
        "then {hero} looked at {friend}, and {friend} looked at {hero}.",
        "",
    ],
    &[
        "\"I am sorry,\" said {hero}. \"[We can share it|You can have it first|You are my friend].\"",
        "\"Let us not fight,\" said {friend}. \"A friend is better than a {noun}.\"",
        "{adult} said, \"If you share it, you will both be happy.\"",
    ],
    &[
        "so they [laughed and|made up and] played together until the sun went down.",
        "after that, they took turns and were friends again.",
        "they shook hands and went home together.",
    ],
];

const SEED: Plot = &[
    &[
        "in the spring, {hero} put a [small|brown] seed into the ground [behind the house|in the garden].",
        "{open} {adult} gave {hero} a [small|brown] seed.",
        "{hero} found a seed {spot} and planted it in the garden.",
    ],
    &[
        "{he} gave it water every {day} and waited.",
        "\"Give it water and wait,\" said {adult}. \"Good things take time.\"",
        "{he} went to look at it every day.",
    ],
    &[
        "for a long time nothing happened.",
        "the rain came and the sun came, but {he} saw only brown earth.",
        "{friend} laughed and said, \"It will never grow.\"",
    ],
    &[
        "then, one {day}, there was a small green leaf.",
        "after three weeks, a green leaf came out of the earth.",
        "but {hero} did not give up, and one {day} there was something green in the ground.",
    ],
    &[
        "it grew and grew, and by the end of summer it was a tall [sunflower|tree|rose bush].",
        "by the autumn it was a big [pumpkin|tomato plant] with yellow flowers.",
        "soon it was [as tall as {hero}|taller than the wall].",
    ],
    &[
        "{hero} was proud and showed it to {friend}.",
        "everyone in the village came to see it.",
        "\"You see,\" said {adult}, \"it was good to wait.\"",
        "a {pet} came every day to sit under it.",
    ],
];

const STORM: Plot = &[
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

const BIRTHDAY: Plot = &[
    &[
        "tomorrow was {friend}'s birthday, and {hero} had no present.",
        "it was {friend}'s birthday. {hero} wanted to give {fhim} something [nice|pretty|good].",
        "{open} {hero} thought about a present for {friend}.",
    ],
    &[
        "{he} had only [one coin|two coins|a little money].",
        "{he} thought about it [all day|for a long time].",
        "\"What would {friend} like?\" {he} asked {adult}.",
    ],
    &[
        "so {he} made a {noun} all by {himself}.",
        "so {he} went to the market and bought a {thing}.",
        "in the end {he} took {his} own {noun} and put it in a [box|bag].",
        "then {he} saw a {thing} in a window. It was just right.",
    ],
    &[
        "\"Happy birthday!\" said {hero} and gave it to {friend}.",
        "the next day {he} put it on the table, and {friend} came in.",
        "{friend} opened the present slowly.",
    ],
    &[
        "{friend} [smiled|laughed] and clapped {fhis} hands.",
        "\"A {noun}!\" said {friend}. \"[It is just what I wanted|This is the best present of all].\"",
        "{friend} was so happy that {fhe} [danced|jumped up and down].",
    ],
    &[
        "then they all ate {cake}.",
        "{friend} keeps it to this day.",
        "they played [with it|together] until it was dark.",
        "",
    ],
];

const HARBOUR: Plot = &[
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
const TALE: Plot = &[
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

const FABLE: Plot = &[
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

const RAINY_DAY: Plot = &[
    &[
        "it rained all day, and {hero} had nothing to do.",
        "{hero} was ill and had to stay in bed.",
        "{open} {hero} had to stay at home.",
    ],
    &[
        "\"I am bored,\" {he} said to {adult}.",
        "{he} looked out of the window and [sighed|counted the drops].",
        "",
    ],
    &[
        "so {he} [drew a picture of|read a book about|wrote a story about] a {animal} that could [fly|talk|sing].",
        "\"Why do you not [draw a picture|read a book|write a story]?\" asked {adult}.",
        "then {he} had an idea. {He} took [an old box|some paper|two blankets] and made a [ship|castle|house].",
        "then {friend} came to see {him}, and they [told stories|played a game|sang songs].",
    ],
    &[
        "in {his} mind {he} was [a king|a captain|far away], and the room was [a forest|the sea|a castle].",
        "at first it was not easy, but {he} [liked it more and more|did not stop].",
        "the hours went by like minutes.",
        "soon {he} forgot that {he} was [bored|alone|inside].",
    ],
    &[
        "when {adult} called {him} for supper, {he} did not want to stop.",
        "\"It can rain tomorrow too,\" said {hero} with a smile.",
        "in the evening {he} told {adult} all about it.",
        "when the sun came out, {hero} did not even see it.",
    ],
];

const SCHOOL: Plot = &[
    &[
        "{hero} was a shy {child} who never spoke at school.",
        "{open} a new {child} came to school. {His} name was {hero}.",
        "one {day}, {hero} was late for school.",
    ],
    &[
        "\"Who can tell me [where the sun goes at night|how many stars there are|why birds can fly]?\" asked the teacher.",
        "the teacher asked the children to [tell a story|sing a song|draw an animal].",
        "{he} sat down beside {friend} and did not say a word.",
    ],
    &[
        "nobody knew what to say, and the room was quiet.",
        "{his} heart beat fast.",
        "everyone looked at {hero}.",
        "{friend} smiled at {him}.",
    ],
    &[
        "slowly {hero} stood up and [began to speak|told them about a {pet}].",
        "then {he} [took a deep breath|closed {his} eyes] and [began|started].",
        "\"I [think I know|know],\" said {hero} [quietly|at last].",
    ],
    &[
        "when {he} was done, everyone clapped.",
        "\"[Well done|Very good]!\" said the teacher.",
        "\"That was wonderful,\" said {friend}.",
    ],
    &[
        "{hero} went home with a [light heart|big smile].",
        "after that, {hero} was never shy again.",
        "{hero} and {friend} walked home together and became friends.",
        "",
    ],
];

const VISIT: Plot = &[
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

const STARS: Plot = &[
    &[
        "one clear night, {hero} and {adult} looked at the stars.",
        "one [warm|clear] night, {hero} and {friend} lay in the grass and looked up.",
        "at night, {hero} liked to sit at the window and look at the moon.",
    ],
    &[
        "\"How many are there?\" asked {hero}. \"More than you can count,\" was the answer.",
        "\"Is there anyone up there?\" asked {hero}. Nobody knew.",
        "the moon was [big|round|white], and [the world|the village] was very quiet.",
        "{he} counted them, but there were too many.",
    ],
    &[
        "then a star fell from the sky.",
        "suddenly there was a bright light over the {place}.",
        "far away an owl was calling.",
    ],
    &[
        "\"Make a wish!\" said [{friend}|a quiet voice].",
        "{hero} closed {his} eyes and made a wish.",
        "{hero} wished for a {noun}.",
        "",
    ],
    &[
        "{he} never told anyone what it was.",
        "then {he} fell asleep and dreamed of [a {pet}|the sea|the moon].",
        "\"Good night, stars,\" said {hero} and went to bed.",
        "the next morning there was a {thing} [on the table|beside {his} bed].",
    ],
];

const WORK: Plot = &[
    &[
        "there was once [a baker|a farmer|a teacher|a miller] who [lived|had a house] near the {place}.",
        "the old [baker|farmer|miller] got up before the sun.",
        "{adult} was [a baker|a farmer|a teacher|a miller], and {hero} often helped.",
    ],
    &[
        "every morning there was much to do.",
        "[the work was hard|the days were long], but nobody was unhappy.",
        "{weather}",
    ],
    &[
        "{open} {hero} saw that all the [buns|eggs|apples] were gone. \"Look,\" {he} said, \"there are footprints {spot}!\"",
        "{open} {hero} came to the door with a {pet} that was very hungry.",
        "{open} {hero} asked, \"Can I help you?\" \"Come in,\" was the answer. \"I need [a good pair of hands|somebody like you].\"",
        "{open} {hero} heard a [sad|strange|loud] sound outside. It was a {pet} that was [lost|hungry].",
    ],
    &[
        "so they [worked|talked] together until [noon|the evening].",
        "they all laughed about it and [sat down to eat|had some bread and cheese].",
        "in the end everything was [as it should be|in its place].",
    ],
    &[
        "after that, {hero} came every day.",
        "and nobody went home hungry.",
        "\"You have done well,\" {he} heard, and that was the best of all.",
        "",
    ],
];

const RACE: Plot = &[
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

const FISHING: Plot = &[
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

const STREAM: Plot = &[
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

const WALK: Plot = &[
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

const MARKET: Plot = &[
    &[
        "{open} {adult} sent {hero} to the market to buy [bread|milk|eggs|apples].",
        "{open} {hero} went to the market with [one coin|two coins] in {his} pocket.",
    ],
    &["{weather}", "the market was full of people.", ""],
    &[
        "on the way {he} saw a {thing} in a window and [stopped|forgot everything].",
        "an old woman was selling [a {thing}|a {pet}]. \"Do you want it?\" she asked.",
        "a {pet} ran after {him} and looked hungry.",
    ],
    &[
        "{he} wanted it very much, but {he} had no more money.",
        "{he} thought of {adult} and walked on.",
        "{he} gave [the coin|all {his} money] away and came home with an empty basket.",
        "\"I am sorry,\" said {hero}, \"I have only one coin.\"",
    ],
    &[
        "\"Where is the [bread|milk]?\" asked {adult}. {hero} told the whole story.",
        "\"You are a good {child},\" said the woman and gave {him} an apple.",
        "at home {he} put the basket on the table.",
    ],
    &[
        "{adult} laughed, and they [ate|had] soup.",
        "{adult} was not angry at all.",
        "the next day there was a [surprise|present] beside {his} bed.",
        "",
    ],
];

const STRANGER: Plot = &[
    &[
        "{open} {hero} heard a knock at the door. It was an old [man|woman].",
        "{open} a strange [man|woman] came to the village and met {hero}.",
        "{open} {hero} met an old [man|woman] {at}.",
    ],
    &[
        "{weather}",
        "nobody knew the stranger.",
        "the stranger had a long grey coat and a {thing}.",
    ],
    &[
        "\"I have come a long way,\" said the stranger. \"May I [rest|sleep] here?\"",
        "\"Can you help me?\" asked the stranger. \"I [have lost my way|cannot find my {animal}|am cold and tired].\"",
        "\"I am hungry,\" said the stranger. \"Have you got a piece of bread?\"",
    ],
    &[
        "\"Of course,\" said {hero}. \"[Come in|Come with me|Sit down].\"",
        "{hero} was a little afraid, but {he} [opened the door|wanted to help].",
        "{friend} did not want to help, but {hero} did.",
    ],
    &[
        "they [sat by the fire|walked to the {place}], and the stranger told them a story.",
        "the stranger ate and drank and [slept|smiled].",
        "it was a long evening, and nobody was [alone|sad|cold].",
    ],
    &[
        "the next morning the stranger was gone, but there was a {find} on the table.",
        "\"Thank you,\" said the stranger. \"You have a good heart.\"",
        "{hero} never saw the stranger again.",
        "and that is how {hero} made a new friend.",
    ],
];
