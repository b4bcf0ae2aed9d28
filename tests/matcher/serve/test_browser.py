"""A person's way through the pages in a real browser, from faulty data to an answer for a program, and back."""

import base64
import csv
import io
import json
import re
import shutil
import subprocess
import sys

import pytest

from matcher.serve.training.jobs import TRAIN
from matcher.serve.worker.understanding import SAMPLE
from pipeline.toyworld import write_world
from tests.matcher.serve.browsing import browse, percent
from tests.matcher.serve.conftest import quick_training, server_process, zip_of

FAULTY = (
    "nobody.png,a picture that is not there",
    ",no picture named",
    "{0},",
    "{0},a,comma too many",
    "{0},{1}",
    "{0}," + "word " * 600,
    "notes.txt,no picture",
    "../../secret.png,a path",
    "=1+1,a formula",
    "<b>x</b>,markup",
)
"""Rows that cannot be used; {0} is a picture and {1} its first caption."""
_LONG = 1_200_000
"""milliseconds that a part of a training may take"""
PROGRAM = """
import json, sys, urllib.request
request = urllib.request.Request(sys.argv[1], sys.argv[2].encode(), {"Content-Type": "application/json"})
print(urllib.request.urlopen(request).read().decode())
"""


def with_faults(captions):
    """A table of captions with faulty rows at its end; ``captions`` are the sound ones: file, caption."""
    stream = io.StringIO()
    csv.writer(stream).writerows([("file", "caption"), *captions])
    return stream.getvalue() + "".join(row.format(*captions[0]) + "\n" for row in FAULTY)


def put_in(browser, name, data):
    """Chooses a file, sends it, and waits until it was looked at."""
    page = browser.page
    if not page.locator("#files").is_visible():
        page.locator("summary").first.click()
    page.set_input_files("#files", {"name": name, "mimeType": "application/octet-stream", "buffer": data})
    browser.click("Look at the files")
    page.wait_for_url("**/incoming")
    page.wait_for_selector("#discard", timeout=300_000)


def make_project(browser, name, files, captions):
    """Makes a project of files whose captions have faulty rows, mends one of them, and takes all in."""
    page = browser.page
    page.get_by_label("Name").fill(name)
    page.keyboard.press("Enter")
    page.wait_for_url("**/data")
    browser.look()
    put_in(browser, "toys.zip", zip_of({**files, "captions.csv": with_faults(captions).encode()}))
    faults = [cells for cells in browser.table("faults") if cells[0] == "captions.csv"]
    assert [cells[1] for cells in faults] == [f"line {len(captions) + 2 + n}" for n in range(len(FAULTY))]
    assert f"{len(captions):,} new captions" in page.locator("main").inner_text()
    browser.look()
    browser.click("Take in what was understood")
    page.wait_for_url("**/data")
    file, _ = captions[0]
    mended = f"file,caption\n{file},a toy among others\n".encode()
    put_in(browser, "mended.csv", mended)
    assert "0 new pictures and 1 new captions" in page.locator("main").inner_text()
    browser.click("Take in what was understood")
    page.wait_for_url("**/data")
    assert f"with {len(captions) + 1:,} captions" in page.locator("main").inner_text()
    browser.look()


def check(browser, origin, key, image_id, texts):
    """Scores texts with a picture, finds pictures for the first of them, and texts for the picture."""
    page = browser.page
    browser.open(f"{origin}/projects/{key}/check")
    page.fill("#image_id", image_id)
    page.fill("#texts", "\n".join(texts))
    page.click("#score")
    page.wait_for_selector("#scores")
    assert len(browser.table("scores")) == len(texts)
    assert page.locator("form svg image").count() == 1  # the picture under its regions
    browser.look()
    page.click("#find-texts")
    page.wait_for_selector("#ranked li")
    page.fill("#query", texts[0])
    page.click("#find-pictures")
    page.wait_for_selector("#found img")
    browser.look()
    return page.locator("#found img").evaluate_all("images => images.map(image => image.alt)")


def ask(address, **body):
    """What a program of its own gets."""
    command = [sys.executable, "-S", "-c", PROGRAM, address, json.dumps(body)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def change_version(browser, origin, key, number):
    """Makes another version answer, and returns what a program gets then."""
    page = browser.page
    page.goto(f"{origin}/projects/{key}/use")
    browser.click(f"Use version {number}")
    page.get_by_text(f"Version {number} answers now").wait_for()
    return ask(f"{origin}/match", text="a red cube", image_id="1")["log_odds"]


def captions_of(folder):
    """File and caption of a toy world."""
    world = json.loads((folder / "captions.json").read_text())
    names = {image["id"]: image["file_name"] for image in world["images"]}
    return [(names[row["image_id"]], row["caption"]) for row in world["annotations"]]


def files_of(folder):
    """The pictures and regions of a toy world."""
    paths = [*folder.glob("images/*"), *folder.glob("regions/*"), folder / "class_names.txt"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(paths)}


@pytest.mark.slow
def test_a_person_goes_from_faulty_rows_to_an_answer_for_a_program(own, trained, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(trained, data)
    with browse(tmp_path / "browser") as browser, server_process(data, quick_training(own)) as (_, client):
        origin, page = str(client.base_url), browser.page
        browser.open(origin)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        world = own.photos.parent
        files = {name: content for name, content in files_of(world).items() if name.startswith("images/")}
        make_project(browser, "Own toys", files, captions_of(world))
        browser.open(f"{origin}/projects/own-toys/train")
        browser.open(f"{origin}/projects/toys/train")
        assert page.locator(".curves polyline.loss").count() == 2
        browser.open(f"{origin}/projects/toys/report")
        assert len(browser.table("recall")) == 7
        assert len(check(browser, origin, "toys", "1", ["a red cube", "a ball"])) == 12
        versions = data / "projects/toys/versions"
        shutil.copytree(versions / "1", versions / "2")
        browser.open(f"{origin}/projects/toys/use")
        first = ask(f"{origin}/match", text="a red cube", image_id="1")["log_odds"]
        assert [change_version(browser, origin, "toys", n) for n in (2, 1)] == pytest.approx([first, first], abs=1e-5)
        browser.open(f"{origin}/docs")
        browser.open(f"{origin}/projects/own-toys/delete")
        page.get_by_role("checkbox").check()
        browser.click("Delete the project")
        page.wait_for_url(f"{origin}/")
        assert page.locator("#project-own-toys").count() == 0
        browser.click("中文")
        browser.look()


def start_training(browser, origin, key, number, start):
    """Asks for a version, and waits until it trains."""
    browser.page.goto(f"{origin}/projects/{key}/train")
    browser.page.get_by_role("radio", name=start).check()
    browser.page.click("#train")
    browser.page.locator(f"#version-{number}[data-state=running]").wait_for()


@pytest.mark.slow
def test_the_whole_way_makes_a_matcher_that_finds_what_it_has_not_seen(tmp_path):
    data, training = tmp_path / "data", list(TRAIN)
    write_world(SAMPLE, tmp_path / "world")
    with browse(tmp_path / "browser") as browser:
        page = browser.page
        with server_process(data, training) as (process, client):
            origin = str(client.base_url)
            browser.open(origin)
            make_project(browser, "Toys", files_of(tmp_path / "world"), captions_of(tmp_path / "world"))
            start_training(browser, origin, "toys", 1, "Nothing")
            browser.look()
            curve = page.locator(".curves polyline.loss")
            curve.first.wait_for(timeout=_LONG)
            length = len(curve.first.get_attribute("points"))
            page.wait_for_function(  # the page renews itself
                "length => document.querySelector('polyline.loss').getAttribute('points').length > length", arg=length
            )
            assert page.locator(".left").inner_text() != ""
            browser.click("Stop")
            page.locator("#version-1[data-state=stopped]").wait_for(timeout=_LONG)
            step = page.locator(".curves text").nth(1).text_content()
            browser.look()
            page.goto("about:blank")
            process.kill()
            process.wait()
        with server_process(data, training) as (_, client):
            origin = str(client.base_url)
            page.goto(f"{origin}/projects/toys/train")
            assert page.locator(".curves text").nth(1).text_content() == step
            browser.click("Go on")
            page.locator("#version-1[data-state=finished]").wait_for(timeout=_LONG)
            browser.look()
            page.get_by_role("link", name="Report", exact=True).first.click()
            browser.look()
            held_out = int(re.search(r"Of ([\d,]+) pictures", page.locator("main").inner_text())[1].replace(",", ""))
            assert held_out >= 100
            _, _, found, by_chance = browser.table("recall")[0]
            assert percent(found) >= 10 * percent(by_chance)
            caption = captions_of(tmp_path / "world")[0][1]
            assert len(check(browser, origin, "toys", "1", [caption, "a purple heart"])) == 12
            start_training(browser, origin, "toys", 2, "Toys, version 1")
            page.locator("#version-2[data-state=finished]").wait_for(timeout=_LONG)
            first = ask(f"{origin}/match", text="a red cube", image_id="1")["log_odds"]
            second, again = (change_version(browser, origin, "toys", number) for number in (2, 1))
            assert second != first == pytest.approx(again, abs=1e-5)
            browser.look()
            browser.open(f"{origin}/projects/toys/report?version=2")


@pytest.mark.slow
def test_real_photos_with_their_regions_are_trained_on_and_checked(own, shared, tmp_path):
    data, folder = tmp_path / "data", shared / "data"
    photos = {int(path.stem): path for path in sorted((folder / "images").glob("*.jpg"))}
    files = {path.name: path.read_bytes() for path in photos.values()}
    regions = [path for path in sorted((folder / "regions/npz").iterdir()) if int(path.stem) in photos]
    files |= {f"regions/{path.name}": path.read_bytes() for path in regions}
    files["class_names.txt"] = (folder / "regions/coco80_names.txt").read_bytes()
    rows = json.loads((folder / "captions/captions_val2017.json").read_text())["annotations"]
    rows = {(row["image_id"], " ".join(row["caption"].split())): None for row in rows if row["image_id"] in photos}
    captions = [(photos[image_id].name, caption) for image_id, caption in rows]
    with browse(tmp_path / "browser") as browser, server_process(data, quick_training(own)) as (_, client):
        origin, page = str(client.base_url), browser.page
        page.goto(origin)
        make_project(browser, "Photos", files, captions)
        start_training(browser, origin, "photos", 1, "Nothing")
        page.locator("#version-1[data-state=finished]").wait_for(timeout=_LONG)
        browser.open(f"{origin}/projects/photos/report")
        assert len(browser.table("recall")) == 7
        image_id = captions[0][0].removesuffix(".jpg").lstrip("0")
        assert len(check(browser, origin, "photos", image_id, [captions[0][1], "nothing at all"])) == 12
        assert "score" in ask(f"{origin}/match", text=captions[0][1], image_id=image_id)
        new = base64.b64encode(files[captions[0][0]]).decode()
        answer = client.post("/match", json={"text": "a dog", "image": new}, headers={"accept": "*/*"})
        assert (answer.status_code, answer.json()["error_code"]) == (409, 1005)
