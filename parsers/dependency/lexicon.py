"""The word lists of the dependency rules: which English words play which part in a caption.

The labels are FACTUAL's (arXiv 2305.17497). Some lists cannot be complete, such as those of materials and of parts of
things; they hold the words that are frequent in FACTUAL's training captions.
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# --- prepositions -----------------------------------------------------------------------------------------------------

PLACES = {
    "front": "in front of",
    "back": "on back of",
    "backs": "on back of",
    "rear": "at rear of",
    "top": "on top of",
    "bottom": "on bottom of",
    "side": "on side of",
    "sides": "on side of",
    "left": "at the left of",
    "left side": "at the left of",
    "left hand side": "at the left of",
    "right": "on the right side of",
    "right side": "on the right side of",
    "right hand side": "on the right side of",
    "middle": "on middle of",
    "center": "in center of",
    "centre": "in center of",
    "corner": "in corner of",
    "edge": "on edge of",
    "end": "in end of",
    "base": "at base of",
    "foot": "at base of",
}
"""Nouns inside a phrasal preposition ("at the top of"), each with the label of the phrase."""

PLACE_LEADS = _words("in on at to by along near from off over")
PLACE_DETAILS = _words("the a its very far other opposite outer inner upper lower top bottom left right back front")

FIXED_PHRASES = {
    "in back of": "in back of",
    "in the back of": "in back of",
    "on both sides of": "on both sides of",
    "on each side of": "on both sides of",
    "on either side of": "on either side of",
    "left of": "at the left of",
    "right of": "on the right side of",
    "next to": "next to",
    "side by side with": "side by side with",
    "close to": "close to",
    "out of": "out of",
    "in between": "between",
    "inside of": "inside",
    "outside of": "outside",
    "up against": "against",
    "across from": "across from",
    "away from": "away from",
    "along side": "alongside",
    "along side of": "alongside",
    "alongside of": "alongside",
    "on to": "onto",
    "in to": "into",
    "off of": "off",
    "up of": "of",  # "a close up of"
}

PREPOSITION_FORMS = {
    "below": "under",
    "beneath": "under",
    "underneath": "under",
    "atop": "on top of",
    "upon": "on",
    "amongst": "among",
    "toward": "towards",
    "besides": "beside",
}

NOT_RELATIONS = _words("as like than during while about because without except per via including")

# --- objects ----------------------------------------------------------------------------------------------------------

WRAPPERS = _words(
    "photo photograph picture image illustration view shot close closeup close-up portrait snapshot scene sight "
    "display couple bunch lot pair row herd flock crowd line stack set series variety number array assortment "
    "collection kind type sort cluster plenty dozen ton load bit hundred thousand trio amount selection mixture chain "
    "portion section inside outside back backside front bottom end body"
)
"""Nouns that pass their role on to the noun after "of": in "a herd of cows on a hill" the cows are on the hill."""

PORTIONS = {"group": "group of", "piece": "piece", "slice": "slice", "part": "part", "pile": "pile", "patch": "patch"}
"""Nouns that pass their role on as `WRAPPERS` do, each with the attribute that they give to the noun after "of"."""

NOT_THINGS = _words(
    "background foreground distance front top middle side center way while time other another one lot bunch motion "
    "something someone somebody anything anyone everything everyone nothing left right mid-air midair"
)
"""Nouns that place or frame the scene instead of naming a thing in it; they are no objects."""

COLOURS = _words(
    "white black blue green red brown gray grey yellow orange pink purple tan beige silver gold cyan magenta maroon"
)

NOUN_ATTRIBUTES = {
    "wood": "wooden",
    **{
        word: word
        for word in _words(
            "metal brick glass stone plastic concrete cement leather dirt rock cardboard iron steel rubber gravel "
            "asphalt marble granite tile wire wicker bamboo ceramic porcelain denim cotton wool silk velvet satin lace "
            "fur straw clay bronze brass copper aluminum chrome tin mesh khaki foam nylon vinyl linen pine paper "
            "wooden decker way rise story baby toy adult mother wii laptop wine plaid oval square"
        )
    },
}
"""Materials and kinds, with their labels. Before a noun they are an attribute ("brick wall").

Other nouns there are part of the name ("fire hydrant").
"""

NAME_ADJECTIVES = _words("hot polar cutting living dining parking remote left right front back side rear")
"""Adjectives that are part of a name: "hot dog", "left hand"."""

NOUN_FORMS = {
    "vas": "vase",
    "pant": "pants",
    "short": "shorts",
    "jean": "jeans",
    "clothe": "clothes",
    "scissor": "scissors",
    "sunglass": "sunglasses",
    "eyeglass": "eyeglasses",
    "goggle": "goggles",
}
"""Corrections of spaCy's lemmas that are no nouns."""

NAME_ENDS = _words("hydrant")
"""Last words of names that spaCy does not know as nouns, so that its trees attach them at random."""

PARTS = _words(
    "branch head face screen wing engine tail leg ear eye feather fur frame wheel handle mouth nose neck back mane"
)
"""Nouns that belong to the noun before them: "tree branch" is (tree, have, branch)."""

# --- attributes -------------------------------------------------------------------------------------------------------

NUMBERS = {
    word: str(number)
    for number, word in enumerate(
        ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"), start=2
    )
}
SHADES = _words("dark light bright pale deep olive navy lime")
"""Words that form one attribute with the colour after them: "dark green"."""

ADJECTIVE_ENDS = _words("colored coloured haired sleeved shaped legged framed faced headed decker way rise story")
"""Words that form one attribute with the word before them: "blond haired"."""

NOT_ATTRIBUTES = _words(
    "other another many several few more most some various same different own such all next only single couple one 1 "
    "multiple each every both which what first last visible front back top"
)

# --- relations --------------------------------------------------------------------------------------------------------

LABEL_FORMS = {"dress in": "wear", "have on": "wear", "full of": "fill with", "make out of": "make of"}
VERB_FORMS = {
    "lie": "lay",
    "seat": "sit",
    "situate": "be",
    "locate": "be",
    "position": "be",
    "rid": "ride",  # spaCy's lemmas of "riding", "shining", "staring" and "installed" are wrong
    "shin": "shine",
    "star": "stare",
    "instal": "install",
}

ACTIONS = {
    "standing": "stand",
    "sitting": "sit",
    "laying": "lay",
    "lying": "lay",
    "walking": "walk",
    "running": "run",
    "riding": "ride",
    "driving": "drive",
    "flying": "fly",
    "swimming": "swim",
    "skiing": "ski",
    "surfing": "surf",
    "skateboarding": "skateboard",
    "snowboarding": "snowboard",
    "grazing": "graze",
    "sleeping": "sleep",
    "looking": "look",
    "posing": "pose",
    "playing": "play",
    "waiting": "wait",
    "jumping": "jump",
    "crossing": "cross",
}
"""Verb forms that spaCy sometimes takes for nouns ("polar bear swimming in water"), with their labels."""

SILENT_VERBS = _words("be appear seem remain become")
"""Verbs that are no part of a label before a preposition: "is on" gives "on"."""

STATE_VERBS = SILENT_VERBS | _words("look feel get stay turn stand sit keep")
"""Verbs after which an adjective is an attribute of the subject: "the dog is brown"."""

AGENT_PREPOSITIONS = {"cover": _words("with in by"), "surround": _words("with by"), "line": _words("with by")}
"""Prepositions that introduce the agent of a passive: in "covered with snow" the snow covers.

spaCy itself finds agents only after "by".
"""

PLACE_VERBS = _words("park sit stand lay be walk rest wait hang stop")
"""Verbs after which "by" introduces a place, although spaCy takes it for an agent: "parked by the building"."""

CARRYING_VERBS = _words("hold carry wear have put place set contain pull watch take lay")
"""Verbs after whose object a preposition says where the object is: the cup, in "holding a cup in a hand".

After other verbs it says where the subject is: the person, in "eating a pizza in a bar".
"""

WEARABLES = _words(
    "shirt pants pant suit uniform hat shorts short cap outfit clothe clothes clothing jean jeans t-shirt helmet tie "
    "apron wetsuit jersey jacket dress coat sweater vest blouse robe gown skirt sweatshirt hoodie costume gear attire "
    "trunk bikini swimsuit tuxedo sock glove shoe boot sneaker sandal tee kimono scarf pajama overall "
    "glasses sunglass eyeglass goggle"
)

CONTENT_LABELS = {
    **dict.fromkeys(_words("plate tray platter dish"), "on"),
    **dict.fromkeys(
        _words("bowl glass cup mug bottle box basket bag bucket container vase jar pot package can carton crate"), "in"
    ),
}
"""Containers, with the relation of their content to them: "a bowl of soup" is (soup, in, bowl)."""

WHOLES = _words("field forest hill sky meal sandwich salad")
"""Nouns that have what follows "of": "a field of grass" is (field, have, grass).

Other nouns belong to it: "the door of the house" is (house, have, door).
"""

GATHERING_LABELS = _words("with between wear hold have carry contain")
"""Relations whose objects often come in lists: in "a man holding a cup and a phone" both are held."""

PEOPLE = _words("man woman person boy girl people guy child lady kid player baby couple friend dog cat")
"""Nouns that end no such list: in "a man holding a cup and a woman" the woman is not held."""

DEPICTIONS = _words("painting drawing statue sculpture cartoon poster figurine")
