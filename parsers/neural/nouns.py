"""What is known of English nouns: their number, their gender and what kind of thing they name."""

from __future__ import annotations

_IRREGULAR = {
    "children": "child", "men": "man", "women": "woman", "feet": "foot", "teeth": "tooth", "leaves": "leaf",
    "knives": "knife", "shelves": "shelf", "loaves": "loaf", "geese": "goose", "mice": "mouse", "calves": "calf",
}  # fmt: skip
_IRREGULAR_PLURALS = {singular: plural for plural, singular in _IRREGULAR.items()}
_SAME_PLURAL = frozenset(("fish", "deer", "moose", "aircraft"))
_NO_PLURALS = frozenset(("glasses", "jeans", "pants", "shorts", "scissors", "goggles", "gas", "bus", "lens", "canvas"))
_PLURALS = frozenset(("people", "cattle", "sheep", "police", "others", "both"))

_MEN = "man boy guy gentleman father son husband king businessman groom male policeman fireman cowboy brother"
_WOMEN = "woman girl lady mother daughter wife queen bride female businesswoman sister ballerina"
_PERSONS = (
    "person child kid baby toddler infant adult teenager youth player skier surfer skateboarder rider cyclist "
    "worker chef cook driver pedestrian passenger pitcher batter catcher umpire officer soldier tourist student "
    "teacher vendor athlete snowboarder figure individual someone somebody friend biker motorcyclist photographer "
    "musician waiter server customer shopper farmer fisherman swimmer dancer performer singer guitarist companion "
    "visitor guest jumper racer runner youngster doctor nurse clown speaker presenter hiker climber golfer boxer "
    "referee conductor"
)
MEN, WOMEN = frozenset(_MEN.split()), frozenset(_WOMEN.split())
PERSONS = MEN | WOMEN | frozenset(_PERSONS.split())

_KINDS = {
    "animal creature beast":
        "dog cat horse cow sheep goat bear elephant giraffe zebra lion tiger monkey bird duck goose swan chicken "
        "rooster pigeon seagull parrot owl eagle puppy kitten kitty calf lamb foal pony donkey deer moose rabbit "
        "squirrel mouse fox wolf panda cub ram bull dachshund retriever poodle terrier bulldog leopard cheetah rhino "
        "hippo camel llama penguin seal dolphin fish turtle frog lizard snake butterfly bee spider ox pig animal",
    "bird": "duck goose swan chicken rooster pigeon seagull gull parrot owl eagle heron crow robin sparrow flamingo",
    "dog": "puppy dachshund retriever poodle terrier bulldog labrador husky beagle pug corgi spaniel",
    "cat feline": "kitten kitty tabby cat",
    "vehicle":
        "car truck bus van taxi cab suv jeep motorcycle scooter moped bicycle bike tractor trolley tram train cart "
        "ambulance minivan sedan trailer wagon carriage convertible pickup",
    "machine": "motorcycle scooter tractor printer locomotive bicycle computer",
    "bike": "motorcycle bicycle scooter",
    "aircraft plane": "airplane aeroplane jet airliner biplane helicopter seaplane glider plane fighter",
    "vessel craft": "boat ship sailboat canoe kayak ferry yacht barge raft rowboat gondola",
    "room space": "bedroom kitchen bathroom office lounge hall garage stall lobby classroom attic",
    "computer": "laptop desktop macbook pc",
    "device gadget": "phone cellphone smartphone laptop computer tablet camera remote controller keyboard monitor",
    "phone": "cellphone smartphone telephone iphone",
    "screen display": "monitor television tv",
    "appliance": "refrigerator fridge oven stove microwave toaster dishwasher blender",
    "fruit": "apple banana orange pear lemon lime grape strawberry melon watermelon pineapple mango peach berry",
    "vegetable": "broccoli carrot tomato pepper onion potato lettuce cucumber cauliflower cabbage",
    "food meal dish treat snack":
        "pizza sandwich burger cake pasta salad soup rice noodle pie hotdog taco burrito steak omelet sushi curry "
        "donut doughnut",
    "dessert": "cake pie cupcake donut doughnut brownie tart pudding pastry",
    "drink beverage": "coffee tea beer wine juice milk cocktail water soda smoothie",
    "structure building":
        "tower church house barn hotel cathedral skyscraper castle temple arch bridge pavilion hut cottage cabin "
        "warehouse lighthouse windmill station building",
    "furniture": "sofa couch chair table desk bed bench dresser cabinet armchair",
    "couch": "sofa",
    "sofa": "couch",
    "instrument": "guitar piano violin drum trumpet flute cello saxophone",
    "garment": "shirt jacket coat dress skirt sweater jersey hoodie vest suit robe",
    "plant": "flower shrub bush fern cactus tree vine",
    "body water": "lake river sea ocean pond stream bay harbor",
    "road": "street highway lane avenue",
    "street": "road avenue",
    "square": "plaza",
    "sea": "ocean",
    "ocean": "sea",
    "slope": "hill hillside piste mountainside",
    "hill": "slope hillside mound",
    "sidewalk": "pavement",
    "pavement": "sidewalk",
    "rug": "carpet mat",
    "fence": "barrier railing",
    "barrier": "fence railing wall",
    "sign": "board placard",
    "tv": "television",
    "locomotive": "train engine",
    "engine": "locomotive",
    "pane": "window",
    "clock": "timepiece",
    "timepiece": "clock",
    "toy": "bear doll dinosaur teddy",
    "bag": "backpack handbag purse suitcase luggage tote",
    "container": "bowl box basket jar pot bin crate vase",
    "fabric cloth": "curtain tablecloth towel blanket net",
}  # fmt: skip
_KIND_OF = {name: frozenset(members.split()) for names, members in _KINDS.items() for name in names.split()}
LEAST_SUFFIX = 4
"""Letters that a word must have to be the kind of a longer word that ends with it: a bedroom is a room."""


def singularize(noun: str) -> str:
    """Returns the singular of an English noun in lower case; of anything else, the word itself or nearly so."""
    if noun in _NO_PLURALS or noun in _PLURALS:
        return noun
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    if noun.endswith("men"):
        return noun[:-2] + "an"
    if noun.endswith("ies") and len(noun) > 4:
        return noun[:-3] + "y"
    if noun.endswith(("ches", "shes", "sses", "xes", "oes")) and noun != "shoes":
        return noun[:-2]
    return noun[:-1] if noun.endswith("s") and not noun.endswith(("ss", "us", "is")) else noun


def make_plural(noun: str) -> str:
    """Returns the plural of an English noun in the singular and in lower case."""
    if noun in _SAME_PLURAL or noun in _PLURALS:
        return noun
    if noun in _IRREGULAR_PLURALS:
        return _IRREGULAR_PLURALS[noun]
    if noun.endswith("man") and noun != "human":
        return noun[:-2] + "en"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "z", "ch", "sh", "tomato", "potato")) else "s")


def is_plural(noun: str) -> bool:
    """Tells whether a noun in lower case speaks of several things."""
    return noun in _PLURALS or singularize(noun) != noun


def is_kind_of(kind: str, noun: str) -> bool:
    """Tells whether a singular noun names a thing of a kind: a dachshund is a dog, a bedroom is a room."""
    return noun in _KIND_OF.get(kind, ()) or (len(kind) >= LEAST_SUFFIX and noun.endswith(kind) and noun != kind)
