"""The words of the built-in world: closed sets, and the sentences that they are put into.

Every set that carries a fact (names, verbs, objects, days, times, places) is disjoint from the
others and from all other words, so a word alone tells which kind of fact it is. The insults are
mild, and occur nowhere but in rude remarks.
"""

from __future__ import annotations

NAMES = (
    "anna", "ben", "clara", "david", "emma", "felix", "grace", "henry", "ivy", "jack", "kate", "leo",
    "maria", "noah", "olga", "paul", "rosa", "simon", "tina", "victor",
)  # fmt: skip
VERBS = ("borrow", "buy", "carry", "check", "clean", "draw", "find", "fix", "move", "paint", "photograph", "sell")
OBJECTS = (
    "bed",
    "bike",
    "boat",
    "car",
    "chair",
    "clock",
    "desk",
    "door",
    "fence",
    "lamp",
    "mirror",
    "piano",
    "shelf",
    "sofa",
    "table",
    "tent",
)
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
TIMES = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "noon")
PLACES = {
    "barn": "in", "cellar": "in", "forest": "in", "garage": "in", "garden": "in", "kitchen": "in", "park": "in", "yard": "in",
    "bridge": "at", "harbor": "at", "library": "at", "market": "at", "school": "at", "station": "at",
}  # fmt: skip

WHENS = tuple(f"on {day}" for day in DAYS) + tuple(f"at {time}" for time in TIMES)
WHERES = tuple(f"{preposition} the {place}" for place, preposition in PLACES.items())

# What is said. {friend} is who gets asked; {old} and {new} are whens or wheres; {word} is the last part of {old}.
GREETINGS = ("hi {friend} ,", "hello {friend} ,", "dear {friend} ,", "good morning {friend} ,", "{friend} , i am glad you called .")
SMALL_TALK = (
    "i hope you are well .",
    "what a nice week !",
    "long time no see .",
    "it was so good to talk again .",
    "the weather is lovely now .",
)
REQUESTS = (
    "can you {activity} {details} ?",
    "could you {activity} {details} ?",
    "please {activity} {details} .",
    "i need you to {activity} {details} .",
)
QUESTIONS = (
    ("how is your family ?", "they are all well , thank you ."),
    ("is it a lot of work ?", "no , it is quick and easy ."),
    ("do i need to bring a thing ?", "no , just bring yourself ."),
    ("did we not do that last year ?", "yes , and it went very well ."),
)
PLACE_QUESTIONS = (
    ("where will that be ?", "{where} , as always ."),
    ("and what is the place ?", "{where} , i think ."),
    ("where do we meet ?", "we meet {where} , of course ."),
)
PROPOSALS = (
    "{word} does not suit me , how about {new} ?",
    "{word} is bad for me , what about {new} ?",
    "not {old} , please . can we say {new} ?",
)
CONCESSIONS = ("fine , {new} then .", "good idea , {new} it is .", "no problem , {new} is fine too .")
ANSWERS: dict[str, tuple[str, ...]] = {
    "agrees": ("yes , i will be there .", "sure , count me in .", "with pleasure , i like to help ."),
    "refuses": ("sorry , i will not come .", "no , i have too much to do .", "i cannot , ask somebody else ."),
    "hesitates": ("maybe , i must see first .", "i do not know yet .", "perhaps , let me think about it ."),
}
CLOSINGS: dict[str, tuple[str, ...]] = {
    "agrees": ("great , see you then .", "wonderful , thank you so much ."),
    "refuses": ("what a pity , bye for now .", "never mind , another time ."),
    "hesitates": ("fine , tell me soon .", "take your time , there is no hurry ."),
}

# What a summary says.
ASKS = ("asks", "wants", "begs")
OUTCOMES: dict[str, str] = {
    "agrees": "agrees",
    "says yes": "agrees",
    "refuses": "refuses",
    "says no": "refuses",
    "hesitates": "hesitates",
    "says maybe": "hesitates",
}
DETERMINERS = ("that", "the", "our")
DEGREES = ("so", "very", "rather")
RUDE_ADJECTIVES = ("silly", "stupid", "lazy", "dumb", "daft", "foolish", "clueless", "useless")
RUDE_NOUNS = ("fool", "idiot", "clown", "twit", "dimwit", "nitwit", "dunce", "donkey")
POLITE_ADJECTIVES = ("kind", "gentle", "patient", "cheerful", "clever", "honest", "friendly", "thoughtful")
POLITE_NOUNS = ("friend", "helper", "darling", "star", "treasure", "neighbor", "buddy", "sweetheart")
INSULTS = frozenset(RUDE_ADJECTIVES + RUDE_NOUNS)

PROMPT = "dialogue : {dialogue} summary :"


def vocabulary() -> list[str]:
    """Every word and mark of the world, sorted, each once."""
    spoken = [*GREETINGS, *SMALL_TALK, *REQUESTS, *PROPOSALS, *CONCESSIONS, PROMPT]
    spoken += [line for pair in (*QUESTIONS, *PLACE_QUESTIONS) for line in pair]
    spoken += [line for lines in (*ANSWERS.values(), *CLOSINGS.values()) for line in lines]
    facts = [*NAMES, *VERBS, *OBJECTS, *WHENS, *WHERES]
    told = [*ASKS, *OUTCOMES, *DETERMINERS, *DEGREES, *INSULTS, *POLITE_ADJECTIVES, *POLITE_NOUNS, "who is , and but to the . : ; ! ?"]
    words = {word for text in (*spoken, *facts, *told) for word in text.split()}
    return sorted(word for word in words if "{" not in word)
