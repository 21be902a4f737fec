"""Draw the pages of the labelling app for the documentation, from a small made-up project in which people have been at work.

    PYTHONPATH=tests python tests/web/browser/screenshots.py docs/images/labelling

needs playwright, pillow and chromium. The people and what they say are drawn from a seed, so the figures come out the same.
"""

from __future__ import annotations

import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright
from served import CHROMIUM, Served, serve

from heedful.feedback.asking import ask
from heedful.feedback.criteria import CRITERIA, usual_questions
from heedful.feedback.instructions import instructions_for
from heedful.records import Completion, Labeler, Prompt
from heedful.store import Answer, Project, Store, accounts, comprehension, invitations
from heedful.store.comprehension import Question
from heedful.store.store import utc_now
from heedful.web import analysis
from stores import Clock

WIDE, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 844}
QUESTIONS = [
    Question(
        "What does rank 1 hold?", ["The completion that helps most", "The completion that helps least"], 0, "Rank 1 is the best completion."
    ),
    Question(
        "Two completions are almost equal. What do you do?",
        ["They share a rank", "I look for the difference"],
        1,
        "A small difference is one.",
    ),
]
BASIL = [
    {"role": "user", "content": "How do I keep basil alive on a window sill in winter?"},
    {"role": "assistant", "content": "Which way does the window face?"},
    {"role": "user", "content": "North, and it is cold at night."},
]
SHOWN: list[tuple[Any, list[str]]] = [
    (
        BASIL,
        [
            "Give it a lamp: basil wants twelve hours of light, and a north window in winter has three. Move it away from the glass "
            "at night, where it falls below 10 °C. Water it from below when the top of the soil is dry, and pinch off the flowers.",
            "Move it away from the glass at night and water it less than in summer. A warmer room helps.",
            "Water it a lot, every evening, and leave it at the window so that it gets used to the cold.",
            "Basil is a herb of the mint family. It is used in many kitchens, and the Greeks thought that it had to be cursed to grow.",
        ],
    ),
    (
        "Why is the sky blue?",
        ["Air scatters short waves more than long ones.", "Because of the sea.", "It scatters light.", "Blue is a colour."],
    ),
]
ANSWERS = ["a full answer with its reasons", "an answer that is short of reasons", "an answer to half of it", "something beside the point"]
SKILLS = {"amal": 2.2, "gus": -2.0, "boris": 1.9, "chen": 2.4, "emil": 0.0, "dara": 1.6, "fay": 2.0, "hiro": 2.1, "ivo": 1.0, "june": 2.3}
"""How well they see what is better; emil guesses, gus reads the scale upside down."""
HASTY = "ivo"
TASKS = 10
"""Under each of the two versions of the instructions; who is hasty does half of the first."""


def build(store: Store) -> None:
    """The project, forty prompts, and what ten labelers said about most of them, under two versions of the instructions."""
    asked = CRITERIA["helpfulness"].question
    shares = {"calibration_share": 0.2, "repeat_share": 0.15, "repeat_after": 4 * 3600}
    store.create_project(Project("garden-helper", "helpfulness", asked, overlap=5, max_overlap=6, max_shown=4, **shares))  # type: ignore[arg-type]
    others = [(f"How do I grow {plant}?", [f"{plant.title()}: {text}." for text in ANSWERS]) for plant in PLANTS]
    items = [item(f"p{i:02}", asked, texts, known=i >= len(others) - 4) for i, (asked, texts) in enumerate(others)]
    store.add_prompts("garden-helper", items[:-4])
    store.add_prompts("garden-helper", items[-4:], calibration=True)
    groups = [{"language": "native" if number % 2 else "learnt"} for number in range(len(SKILLS))]
    store.add_labelers(*(Labeler(name, strata=strata) for name, strata in zip(SKILLS, groups, strict=True)))
    quality = {completion.text: -i for _, shown in items for i, completion in enumerate(shown)}
    told = instructions_for(CRITERIA["helpfulness"]).text
    for number, words in enumerate((told, f"{told}\nA longer answer is not a better one.\n")):
        version = store.publish("garden-helper", words)
        for name, skill in SKILLS.items():
            if name != HASTY or not number:
                store.acknowledge("garden-helper", name, version)
                work(store, name, skill, quality, Random(f"{name} {number}"))
    analysis.work_out(store, "garden-helper")
    store.add_prompts("garden-helper", [item(f"shown{i}", asked, texts) for i, (asked, texts) in enumerate(SHOWN)])


def item(prompt_id: str, asked: Any, texts: list[str], known: bool = False) -> tuple[Prompt, list[Completion]]:
    """A prompt with texts as four models would have written them, the best first; ``known``: and with that as its right answer."""
    made = [Completion(f"{prompt_id}:{i}", prompt_id, text, [1], "stop", i, f"model-{i}", {}) for i, text in enumerate(texts)]
    gold = {"gold_ranks": {c.id: i for i, c in enumerate(made, 1)}} if known else {}
    return Prompt(prompt_id, asked, columns=gold), made


PLANTS = [
    "basil",
    "mint",
    "thyme",
    "sage",
    "dill",
    "chives",
    "parsley",
    "rosemary",
    "lemons",
    "figs",
    "plums",
    "cherries",
    "apples",
    "pears",
    "quinces",
    "beans",
    "peas",
    "leeks",
    "onions",
    "garlic",
    "carrots",
    "beets",
    "kale",
    "chard",
    "spinach",
    "lettuce",
    "radishes",
    "squash",
    "melons",
    "okra",
    "tomatoes",
    "peppers",
    "maize",
    "rye",
    "oats",
    "flax",
    "hemp",
    "hops",
]


def work(store: Store, name: str, skill: float, quality: dict[str, int], chance: Random) -> None:
    """One labeler's answers to some tasks: the true order seen through noise, now and then a tie or an F."""
    for _ in range(TASKS // 2 if name == HASTY else TASKS):
        if (task := ask(store, "garden-helper", name)) is None:
            return
        seen = [skill * quality[text] + chance.gauss(0, 1.2) for text in task.completions]
        order = sorted(range(len(seen)), key=lambda i: -seen[i])
        ranks: list[int | None] = [order.index(i) + 1 for i in range(len(seen))]
        if chance.random() < 0.12:
            ranks[order[1]] = 1
        if chance.random() < 0.15:
            ranks[order[-1]] = None
        took = chance.lognormvariate(4.2, 0.4) * (20 if name == HASTY else 1000)
        store.clock.turn(minutes=chance.uniform(2, 60))  # type: ignore[attr-defined]
        store.submit(task.token, name, task.token, Answer(ranks=ranks, active_ms=int(took)), task.instructions_version)


def lead_to(store: Store, name: str, prompt: Any) -> None:
    """Skip tasks until the one comes that makes the better picture."""
    while (task := ask(store, "garden-helper", name)) is not None and task.prompt != prompt:
        store.skip(task.token, name, "cannot judge")


class Camera:
    """Takes pictures of pages, light or dark, wide or phone."""

    def __init__(self, browser: Any, served: Served, folder: Path) -> None:
        self.browser, self.served, self.folder = browser, served, folder

    def page(self, cookie: str | None, path: str, scheme: str = "light", size: dict[str, int] = WIDE) -> Any:
        """A page as somebody sees it."""
        context = self.browser.new_context(color_scheme=scheme, viewport=size, reduced_motion="reduce")
        if cookie:
            context.add_cookies([{"name": "heedful", "value": cookie, "url": self.served.url}])
        page = context.new_page()
        page.goto(self.served.url + path)
        return page

    def shoot(self, page: Any, name: str, whole: bool = False) -> None:
        """A PNG of few colours: a third of the size, and nobody sees the difference."""
        target = self.folder / f"{name}.png"
        page.wait_for_timeout(150)
        page.screenshot(path=target, full_page=whole)
        with Image.open(target) as picture:
            few(picture.convert("RGB")).save(target, optimize=True)


def few(picture: Image.Image) -> Image.Image:
    """The picture in its 255 most frequent colours, so that pages have the same background, and badges keep their colour."""
    found = picture.getcolors(picture.width * picture.height) or []
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for _, colour in sorted(found, reverse=True)[:255] for part in colour])  # type: ignore[attr-defined]
    return picture.quantize(palette=palette, dither=Image.Dither.NONE)


def ranked(page: Any, how_many: int) -> Any:
    """The labelling page on which so many completions got their place: the best rank 1, the last an F."""
    page.wait_for_selector(".completion")
    texts = page.locator(".completion .folding .text").all_inner_texts()
    for text in texts[:how_many]:
        page.keyboard.press("123i"[SHOWN[0][1].index(text)])
    return page


def labeler_pages(camera: Camera, cookie: str, label: str, store: Store) -> None:
    """What a labeler sees, from the instructions to their own work."""
    page = camera.page(cookie, label)
    camera.shoot(page, "instructions")
    page.get_by_role("button", name="I have read").click()
    camera.shoot(page, "check")
    page.get_by_label(QUESTIONS[0].choices[0]).check()
    page.get_by_label(QUESTIONS[1].choices[1]).check()
    page.get_by_role("button", name="Send").click()
    lead_to(store, "hana", BASIL)
    page.goto(page.url)
    camera.shoot(ranked(page, 0), "task")
    camera.shoot(ranked(page, 3), "ranking")
    camera.shoot(ranked(camera.page(cookie, label, "dark"), 4), "ranking-dark")
    camera.shoot(ranked(camera.page(cookie, label, size=PHONE), 2), "ranking-phone", whole=True)
    for key, name in (("x", "side-by-side"), ("?", "help")):
        page.locator("#prompt-title").focus()
        page.keyboard.press(key)
        camera.shoot(page, name)
        page.keyboard.press("Escape")
    page.locator("#prompt-title").focus()
    page.keyboard.press("3")
    page.context.set_offline(True)
    page.get_by_role("button", name="Submit").click()
    page.locator("#trouble").wait_for()
    page.evaluate("() => scrollTo(0, 0)")
    camera.shoot(page, "no-network")
    page.context.set_offline(False)
    page.get_by_text("Stored at").wait_for()
    camera.shoot(camera.page(cookie, f"{label}/mine"), "my-work")


def other_pages(camera: Camera, hana: str, served: Served) -> None:
    """Tasks of the other kinds, and what comes between a labeler and their tasks now and then."""
    store, asked = served.store, usual_questions("helpfulness")
    for kind, warning in (("thumbs", "Some of these answers are rude."), ("correction", None)):
        store.create_project(Project(f"garden-{kind}", "helpfulness", asked[kind], task=kind, content_warning=warning))  # type: ignore[arg-type]
        prompt, texts = SHOWN[0]
        store.add_prompts(f"garden-{kind}", [item(f"{kind} 0", prompt, texts[:3])])
    ida, jun = (served.person(name, project=f"garden-{kind}") for name, kind in (("ida", "thumbs"), ("jun", "correction")))
    page = camera.page(ida, f"/label/{served.project_id('garden-thumbs')}")
    page.locator("#content-warning").wait_for()
    page.wait_for_selector(".completion")
    camera.shoot(page, "content-warning")
    page.get_by_role("button", name="Go on").click()
    for key in "12":
        page.keyboard.press(key)
    camera.shoot(page, "thumbs")
    page.locator("#prompt-title").focus()
    page.keyboard.press("s")
    camera.shoot(page, "skip")
    page = camera.page(jun, f"/label/{served.project_id('garden-correction')}")
    page.wait_for_selector(".completion")
    page.locator(".completion textarea").nth(1).fill(
        "Move it away from the glass at night. In winter it wants a lamp for twelve hours a day."
    )
    camera.shoot(page, "correction")
    store.publish("garden-helper", f"{instructions_for(CRITERIA['helpfulness']).text}\nLook up what you doubt.\n")
    camera.shoot(camera.page(hana, f"/label/{served.project_id('garden-helper')}"), "instructions-changed")


def manager_pages(camera: Camera, cookie: str, project: str) -> None:
    """What a manager sees."""
    for path in ("", "/people", "/undecided", "/notes", "/prompts", "/instructions", "/settings", "/exports"):
        camera.shoot(camera.page(cookie, project + path), f"manager{path.replace('/', '-') or '-overview'}", whole=path in ("", "/people"))
    page = camera.page(cookie, f"{project}/instructions")
    page.get_by_role("button", name="Have them judged again").scroll_into_view_if_needed()
    camera.shoot(page, "manager-retire")
    camera.shoot(camera.page(cookie, project, "dark"), "manager-overview-dark", whole=True)
    camera.shoot(camera.page(cookie, project, size=PHONE), "manager-overview-phone", whole=True)
    camera.shoot(camera.page(cookie, "/projects/new"), "manager-new-project", whole=True)
    camera.shoot(camera.page(cookie, "/"), "home")
    camera.shoot(camera.page(cookie, "/account"), "account")
    camera.shoot(camera.page(cookie, "/accounts"), "accounts")


def main(folder: Path) -> None:
    """All pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    clock = Clock()
    clock.now = utc_now() - timedelta(days=8)
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        path = Path(place) / "labels.db"
        with Store.open(path, create=True, clock=clock) as store:
            build(store)
        with serve(path) as served:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            camera = Camera(browser, served, folder)
            take(camera, served)
            browser.close()


def take(camera: Camera, served: Served) -> None:
    """The front door, then a labeler's pages, then a manager's."""
    store, now = served.store, served.store.clock
    secret = store.write(lambda c: invitations.make_first(c, now()))
    camera.shoot(camera.page(None, f"/join/{secret}"), "setup")
    camera.shoot(camera.page(None, "/login"), "login")
    owner = served.person("olga", "owner")
    number = served.project_id("garden-helper")
    store.write(lambda c: comprehension.publish(c, "garden-helper", QUESTIONS, "screenshots", now()))
    by = store.read(accounts.everybody)[0]
    link = store.write(lambda c: invitations.make(c, "labeler", number, {"language": "native"}, by, now()))
    camera.shoot(camera.page(None, f"/join/{link}"), "invitation")
    hana = served.person("hana", project="garden-helper", ready=False)
    labeler_pages(camera, hana, f"/label/{number}", store)
    manager_pages(camera, owner, f"/projects/{number}")
    other_pages(camera, hana, served)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
