//! Plots at home, at school and in the village.

use super::Plot;

pub const LOST: Plot = &[
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

pub const BAKING: Plot = &[
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

pub const NOISE: Plot = &[
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

pub const SKILL: Plot = &[
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

pub const QUARREL: Plot = &[
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

pub const SEED: Plot = &[
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

pub const BIRTHDAY: Plot = &[
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

pub const RAINY_DAY: Plot = &[
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

pub const SCHOOL: Plot = &[
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

pub const STARS: Plot = &[
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

pub const WORK: Plot = &[
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

pub const MARKET: Plot = &[
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

pub const STRANGER: Plot = &[
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
