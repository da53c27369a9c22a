"""`bench report --format html` in a real browser: images by a click or by the keyboard, and nothing from elsewhere."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bench.cli.main import main
from tests.bench.data.dicom import made as dicom
from tests.bench.images.made import AFFINE, PATIENT, masks, prediction, write_dicom_run, write_made_run
from tests.browser import pixels
from tests.reports.factory import BASELINE

MIB = 2**20


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("made")
    return write_made_run(root / "run", root / "data", cases=3, channels=2, flips=1)


@pytest.fixture(scope="module")
def page(run):
    return report(run)


def report(run, *options):
    path = run.folder / "report.html"
    assert main(["report", str(run.folder), "--format", "html", "--out", str(path), *options]) == 0
    return path


def wait_for_images(view):
    view.page.locator("[aria-live]", has_text="Under the cross").wait_for()


def colours(view) -> dict[str, int]:
    """Pixels of the canvas that are blue, and that are orange, whatever the grey below them is."""
    red, _, blue = np.moveaxis(pixels(view.page.locator("tr.viewer-row canvas")).astype(int), -1, 0)
    return {"added": int((blue - red > 60).sum()), "removed": int((red - blue > 60).sum())}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_click_shows_where_the_masks_differ_in_two_colours(browser, page, theme):
    view = browser.open(page, colours=theme)
    assert view.page.locator("canvas").count() == 0, "nothing is drawn before it is asked for"
    assert view.page.evaluate("typeof window.niivue") == "undefined"
    view.page.get_by_role("button", name="Show the images of quiz_0_000").click()
    wait_for_images(view)
    assert min(colours(view).values()) > 100
    assert view.axe_faults() == []
    view.page.get_by_label("image alone").check()
    assert colours(view) == {"added": 0, "removed": 0}
    view.page.get_by_label("Channel").select_option("MR 1")
    assert "MR 1" in view.page.locator("[aria-live]").inner_text()
    view.page.get_by_role("button", name="Hide the images of quiz_0_000").click()
    assert view.page.locator("canvas").count() == 0
    view.assert_clean()


def test_the_keyboard_alone_opens_a_case_and_moves_through_it(browser, page):
    view = browser.open(page)
    keys = view.page.keyboard

    def tab_to(selector):
        for _ in range(40):
            keys.press("Tab")
            if view.page.evaluate(f"document.activeElement.matches({selector!r})"):
                return
        raise AssertionError(f"Tab does not reach {selector}")

    tab_to(".show-case")
    keys.press("Enter")
    wait_for_images(view)
    where = view.page.locator("[aria-live]")
    assert "truth: background; baseline: background; variant: pancreas" in where.inner_text()
    tab_to("input[type=radio]")
    keys.press("ArrowRight")
    assert view.page.get_by_role("radio", name="truth").is_checked()
    assert view.page.locator(".key").inner_text().split() == ["pancreas", "lesion"]
    tab_to("canvas")
    for _ in range(12):
        keys.press("PageUp")
    assert "variant: background" in where.inner_text()
    view.page.get_by_role("button", name="Go to the largest difference").press("Space")
    assert "variant: pancreas" in where.inner_text()
    view.assert_clean()


def test_a_volume_that_lies_askew_opens_at_its_largest_difference(browser, tmp_path):
    turned = np.eye(4)
    turned[:3, :3] = Rotation.from_euler("zx", (25, 20), degrees=True).as_matrix()
    view = browser.open(report(write_made_run(tmp_path / "run", tmp_path / "data", affine=turned @ AFFINE)))
    view.page.locator(".show-case").first.click()
    wait_for_images(view)
    assert "truth: background; baseline: background; variant: pancreas" in view.page.locator("[aria-live]").inner_text()
    assert min(colours(view).values()) > 100
    view.assert_clean()


def test_the_largest_difference_is_come_back_to_from_where_one_zoomed_in(browser, page):
    view = browser.open(page)
    view.page.locator(".show-case").first.click()
    wait_for_images(view)
    view.page.locator("canvas").click(position={"x": 40, "y": 130})
    view.page.get_by_label("Zoom").fill("6")
    assert colours(view) == {"added": 0, "removed": 0}
    view.page.get_by_role("button", name="Go to the largest difference").click()
    assert colours(view)["added"] > 10_000
    view.assert_clean()


def test_the_lines_of_the_cross_are_whole_in_a_small_picture(browser, tmp_path):
    def tall(number):
        made = masks(number, (48, 40, 72))
        for mask in made:
            mask[24, 20, [0, -1]] = 1
        return made

    view = browser.open(report(write_made_run(tmp_path / "run", tmp_path / "data", of=tall)))
    view.page.locator(".show-case").first.click()
    wait_for_images(view)
    view.page.get_by_label("image alone").check()
    white = pixels(view.page.locator("tr.viewer-row canvas")).min(-1) > 180
    lines = white.sum(axis=0)[2:-2] > 100
    assert np.count_nonzero(np.diff(lines.astype(int)) == 1) == 3, "upright ones, one in each slice"


def test_an_intensity_beyond_the_shades_is_said_to_be_beyond_them(browser, page):
    view = browser.open(page)
    view.page.locator(".show-case").first.click()
    wait_for_images(view)
    view.page.locator("canvas").click(position={"x": 40, "y": 256})
    said = view.page.locator("[aria-live]").inner_text()
    assert "MR 0 at most \u221227; truth: background" in said, "of fat, whose voxels are near -90"


def test_one_case_after_the_other_and_only_one_at_a_time(browser, page):
    view = browser.open(page)
    for name in ("quiz_0_000", "quiz_2_002", "quiz_1_001", "quiz_0_000"):
        view.page.get_by_role("button", name=f"Show the images of {name}").click()
        wait_for_images(view)
        assert view.page.locator("canvas").count() == 1
        assert name in view.page.locator("canvas").get_attribute("aria-label")
    assert min(colours(view).values()) > 100
    view.assert_clean()


def test_cases_that_are_opened_at_once_come_one_after_the_other(browser, page):
    """One that is closed while it is being set up loses its WebGL context, and NiiVue writes that shaders fail."""
    view = browser.open(page)
    view.page.evaluate("for (const button of document.querySelectorAll('.show-case')) button.click()")
    last = view.page.locator("#cases tr", has=view.page.locator(".show-case")).last.inner_text().split()[0]
    view.page.locator(f"canvas[aria-label*={last}]").wait_for()
    assert view.page.locator("canvas").count() == 1
    assert min(colours(view).values()) > 100
    view.assert_clean()


def test_without_scripts_the_rows_are_there(browser, page):
    view = browser.open(page, javascript=False)
    rows = view.page.locator("#cases tbody tr")
    assert rows.count() == 3
    assert rows.first.inner_text().startswith("quiz_0_000")
    assert not view.page.locator(".show-case").first.is_visible()
    assert view.page.get_by_text("The images need JavaScript").is_visible()
    assert view.page.pdf().startswith(b"%PDF")
    view.assert_clean()


def test_the_page_may_connect_to_nothing(browser, page):
    view = browser.open(page)
    refused = view.page.evaluate("fetch('https://voxbench.invalid/').then(() => 'sent', () => 'refused')")
    assert refused == "refused"
    assert view.requested == []
    assert any("Content Security Policy" in line for line in view.said)


def test_no_name_of_a_patient_is_on_the_page(page, tmp_path):
    text = page.read_text()
    assert PATIENT not in text
    assert "no path, date or header of these files" in text
    text = report(write_dicom_run(tmp_path / "run", tmp_path / "data")).read_text()
    assert "Images of 1 of 1 case" in text
    assert not any(word in text for word in (dicom.PATIENT, *dicom.PATIENT.split("^")[:2], dicom.ID, dicom.BORN))


def test_images_can_be_left_out(run, tmp_path):
    text = report(run, "--no-images").read_text()
    assert "<script" not in text
    assert "quiz_0_000" in text
    assert len(text) < MIB


@pytest.mark.parametrize(("size", "shown"), [("1GiB", 3), ("64KiB", 0)])
def test_the_size_of_the_page_bounds_the_images(run, size, shown):
    text = report(run, "--max-size", size).read_text()
    assert f"Images of {shown} of 3 cases" in text
    assert text.count('class="show-case"') == shown
    assert ("niivue.umd" in text) == (shown > 0)


@pytest.mark.parametrize("size", ["20", "MiB", "twentyMiB", "-1MiB"])
def test_a_size_that_is_none_is_refused(run, size, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["report", str(run.folder), "--format", "html", f"--max-size={size}"])
    assert exit_.value.code == 2
    assert "20MiB" in capsys.readouterr().err


def test_a_damaged_mask_is_one_line_and_the_other_case_can_be_seen(browser, tmp_path):
    run = write_made_run(tmp_path / "run", tmp_path / "data")
    prediction(run.folder, BASELINE, run.record.cases[0]).write_bytes(b"no gzip")
    view = browser.open(report(run))
    row = view.page.locator("#cases tr", has_text="quiz_0_000")
    assert "the baseline's mask cannot be read: not a readable NIfTI file" in row.inner_text()
    assert str(tmp_path) not in view.page.locator("#cases").inner_text()
    view.page.locator(".show-case").click()
    wait_for_images(view)
    assert min(colours(view).values()) > 100
    view.assert_clean()


def test_where_nothing_is_on_this_machine_one_line_says_so(tmp_path):
    run = write_made_run(tmp_path / "run", tmp_path / "data")
    for case in run.record.cases:
        (tmp_path / "data" / f"{case.name}_0000.nii.gz").unlink()
    text = report(run).read_text()
    assert text.count("No images of any case: its image is not where the run read it.") == 1
    assert "<script" not in text
