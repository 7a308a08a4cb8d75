"""What results draw: by the numbers in the figures, since nobody looks at them here."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

import fastrev
from fastrev._pictures import canvas
from fastrev.errors import MissingExtraError
from fastrev.experiments import distill
from fastrev.experiments import schedule as experiment
from fastrev.experiments._shared import pictures as parts

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((60, 4)), np.arange(60) % 3
MODEL = fastrev.MLP((4, 5, 3))
STEPS, GROUPS = 12, 4


def tuned(model: fastrev.MLP = MODEL, **named) -> fastrev.TuneResult:
    common = {"train": (X, Y), "valid": (X, Y), "steps": STEPS, "lr": 0.1, "decay": 0.9, "meta_steps": 4, "runs": 2}
    return fastrev.tune(model, **{**common, **named}, progress=False)


def drawn(figure: Figure) -> Figure:
    """The figure, laid out."""
    figure.canvas.draw()
    return figure


def titles(figure: Figure) -> list[str]:
    return [axis.get_title() for axis in figure.axes]


def ticks(axis) -> list[str]:
    """The labels that are in sight."""
    low, high = sorted(axis.get_ylim())
    return [each.get_text() for each in axis.get_yticklabels() if low <= each.get_position()[1] <= high]


def legends(figure: Figure) -> list:
    parts = [figure, *figure.subfigs]
    return [each for part in parts for each in part.legends] + [
        axis.get_legend() for axis in figure.axes if axis.get_legend() is not None
    ]


def no_legend_hides_data(figure: Figure) -> bool:
    """Whether every legend lies beside all axes, within the figure."""
    boxes = [axis.get_window_extent() for axis in figure.axes]
    own = [each.get_window_extent() for each in legends(figure)]
    inside = all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1 for box in own)
    return inside and not any(box.overlaps(each) for box in own for each in boxes)


@pytest.fixture(scope="module")
def schedule() -> fastrev.TuneResult:
    return tuned(lr=np.full((STEPS, GROUPS), 0.1), decay=np.full((STEPS, GROUPS), 0.9), learn=("lr", "decay"))


def test_a_schedule_has_a_panel_a_group(schedule):
    figure = drawn(schedule.plot())
    assert titles(figure) == ["", "W1", "b1", "W2", "b2", "W1", "b1", "W2", "b2"]
    for name, panels in (("lr", figure.axes[1:5]), ("decay", figure.axes[5:9])):
        for group, axis in enumerate(panels):
            start, learned = axis.lines
            assert np.array_equal(learned.get_ydata(), getattr(schedule, name)[:, group])
            assert np.array_equal(start.get_ydata(), np.full(STEPS, {"lr": 0.1, "decay": 0.9}[name]))
            assert np.array_equal(learned.get_xdata(), np.arange(STEPS))
            low, high = axis.get_ylim()
            for line in axis.lines:
                assert low < line.get_ydata().min() <= line.get_ydata().max() < high
    assert {"0.9", "0.99"} <= set(ticks(figure.axes[5]))
    assert len(ticks(figure.axes[1])) >= 2
    assert no_legend_hides_data(figure)
    assert [each.get_text() for each in figure.subfigs[1].legends[0].get_texts()] == ["start", "learned"]


def test_values_that_hardly_differ_are_drawn_without_a_warning(recwarn):
    """Those of a result that kept its start: apart by rounding."""
    values = 0.9 + 2e-16 * np.arange(3)
    for draw in (canvas.by_logarithm, canvas._by_memory):
        axis = canvas.figure(4, 3).subplots()
        axis.plot(values)
        draw(axis, values)
        low, high = axis.get_ylim()
        assert low < values.min() < values.max() < high
    result = tuned(lr=1e-12, l2=1e-12, learn=("l2",))
    result = replace(result, history=result.history._replace(loss=np.full(4, np.nextafter(result.loss, 2))))
    drawn(replace(result, start_loss=result.loss).plot())
    assert not recwarn.list


def test_the_loss_is_that_of_the_history(schedule):
    accepted = schedule.history.accepted.copy()
    accepted[[1, 3]] = False
    loss = schedule.history.loss.copy()
    loss[3] = np.inf
    result = replace(schedule, history=schedule.history._replace(accepted=accepted, loss=loss))
    figure = drawn(result.plot())
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert np.array_equal(lines["mean of the meta-step's runs"].get_ydata(), loss)
    assert lines["taken back (1)"].get_xydata().tolist() == [[1, loss[1]]]
    assert lines["no run ended (1)"].get_xdata().tolist() == [3]
    ends = [line.get_xydata().tolist() for label, line in lines.items() if label.startswith(("start, ", "end, "))]
    assert ends == [[[0, result.start_loss]], [[4, result.loss]]]
    assert no_legend_hides_data(figure)


def test_an_interrupt_before_the_first_meta_step_leaves_a_picture(schedule):
    nothing = schedule.history._replace(**{name: each[:0] for name, each in schedule.history._asdict().items()})
    result = replace(schedule, history=nothing, loss=np.inf, start_loss=np.inf)
    assert len(drawn(result.plot()).axes) == 9


def test_numbers_go_from_start_to_end():
    result = tuned(learn=("lr", "decay"))
    figure = drawn(result.plot())
    assert titles(figure) == ["", "learning rate", "momentum decay"]
    for axis, start, end in zip(figure.axes[1:], (0.1, 0.9), (result.lr, result.decay), strict=True):
        assert axis.lines[0].get_ydata().tolist() == [start, end]
        assert [each.get_text().split("\n")[0] for each in axis.get_xticklabels()] == ["start", "learned"]
    assert {"0.9", "0.99"} <= set(ticks(figure.axes[2]))


def test_groups_have_dots_by_their_names():
    result = tuned(learn=("lr", "l2", "init_scale"), lr=np.full((1, GROUPS), 0.1), l2=np.full(GROUPS, 1e-3))
    figure = drawn(result.plot())
    assert [axis.get_ylabel() for axis in figure.axes] == ["loss", "learning rate", "l2 penalty", "initial scale"]
    starts = ([0.1] * 4, [1e-3] * 4, [0.5, 0, 5**-0.5, 0])
    for axis, name, start in zip(figure.axes[1:], result.learned, starts, strict=True):
        dots = {each.get_label(): np.asarray(each.get_offsets()[:, 1]) for each in axis.collections}
        assert np.array_equal(dots["learned"], np.ravel(result.learned[name]))
        assert dots["start"] == pytest.approx(start)
        assert [each.get_text() for each in axis.get_xticklabels()] == ["W1", "b1", "W2", "b2"]
    assert no_legend_hides_data(figure)


def test_data_and_weights_have_histograms():
    result = tuned(learn=("w0", "x", "y", "example_weights"), w0=MODEL.init(0))
    figure = drawn(result.plot())
    for axis, name in zip(figure.axes[1:], result.learned, strict=True):
        assert axis.get_xlabel() == name
        size = result.learned[name].size
        assert axis.get_ylabel() == f"of {size} numbers"
        assert sum(each.get_height() for each in axis.patches) == 2 * size  # the start's are as many
        assert [each.get_text() for each in axis.get_legend().get_texts()] == ["start", "learned"]
    assert no_legend_hides_data(figure)


@pytest.mark.parametrize("shape", [(STEPS,), (STEPS, 1)])
def test_one_schedule_for_all_groups_has_one_panel(shape):
    result = tuned(lr=np.full(shape, 0.1), learn=("lr",))
    figure = result.plot()
    assert titles(figure) == ["", "all groups"]
    assert np.array_equal(figure.axes[1].lines[-1].get_ydata(), result.lr.ravel())


@pytest.mark.parametrize(("depth", "panels"), [(5, 12), (9, 2)])
def test_many_groups_are_in_rows_and_more_in_colours(depth, panels):
    """12 groups have a panel each, in two rows; 20 a row of colours each, and a colour bar."""
    model = fastrev.MLP((4, *[3] * depth, 3))
    table = (STEPS, len(model.groups))
    for name in ("lr", "decay"):
        result = tuned(model, **{name: np.full(table, 0.5)}, learn=(name,), meta_steps=1)
        figure = drawn(result.plot())
        panel = [axis for axis in figure.axes[1:] if axis.axison]
        assert len(panel) == panels
        if panels == 2:
            assert np.array_equal(panel[0].images[0].get_array(), getattr(result, name).T)
            assert panel[1].get_ylabel() == canvas.TITLES[name]
            assert [each.get_text() for each in panel[0].get_yticklabels()] == list(model.groups)
        else:
            assert [axis.get_title() for axis in panel] == list(model.groups)


def test_a_loaded_result_is_drawn_too(schedule, tmp_path):
    schedule.save(tmp_path / "a.npz")
    figure = drawn(fastrev.load(tmp_path / "a.npz").plot())
    assert titles(figure) == titles(schedule.plot())
    assert np.array_equal(figure.axes[5].lines[-1].get_ydata(), schedule.decay[:, 0])
    assert np.array_equal(figure.axes[0].lines[0].get_ydata(), schedule.history.loss)


class Bowl:
    """Squares of the distance to a target that is learned."""

    num_params = 3

    def __init__(self, target):
        self.theta = {"target": target}

    def grad(self, w, t):
        return w - self.theta["target"]

    def hvp(self, w, u, t):
        return u

    def cross(self, w, u, t):
        return {"target": -u}

    def with_theta(self, theta):
        return Bowl(theta["target"])


@pytest.mark.parametrize("steps_and_groups", [(8, 1), (1, 1)])
def test_an_objective_is_drawn_too(steps_and_groups, tmp_path):
    result = fastrev.tune(
        Bowl(np.zeros(3)), np.ones(3), valid=lambda w: (w @ w, 2 * w), steps=8, lr=np.full(steps_and_groups, 0.1),
        decay=0.5, learn=("lr", "theta"), meta_steps=3, progress=False,
    )  # fmt: skip
    figure = drawn(result.plot())
    assert len(figure.axes) == 3
    assert np.array_equal(figure.axes[2].collections[-1].get_offsets()[:, 1], result.theta["target"])
    result.save(tmp_path / "a.npz")
    assert len(drawn(fastrev.load(tmp_path / "a.npz").plot()).axes) == 3


def test_minimize_is_drawn_too():
    def fun(values, seed):
        return float(values["a"] @ values["a"]) - 5, {"a": 2 * values["a"], "b": 0.0}

    result = fastrev.minimize(fun, {"a": np.ones(3), "b": 2.0}, meta_steps=5, runs=1, progress=False)
    figure = drawn(result.plot())
    assert figure.axes[0].get_yscale() == "linear"  # for the loss is below 0
    assert figure.axes[1].collections[0].get_offsets().tolist() == [[1, 2.0]]
    assert np.array_equal(figure.axes[2].collections[0].get_offsets()[:, 1], result.x["a"])


def test_a_figure_needs_no_display_and_leaves_no_state(schedule, tmp_path):
    schedule.plot().savefig(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    schedule.save(tmp_path / "a.npz")
    path = str(tmp_path / "a.npz")
    script = f"import sys, fastrev; fastrev.load({path!r}).plot(); print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


class Absent:
    """Finds no matplotlib, before others find it."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name == "matplotlib":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_without_matplotlib_the_extra_is_named(schedule, monkeypatch):
    for name in [each for each in sys.modules if each.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Absent, *sys.meta_path])
    with pytest.raises(MissingExtraError, match=r"fastrev\[plot\]"):
        schedule.plot()


# ---- scales --------------------------------------------------------------------------------------------------


def axis_of(*values: float, ratio: bool = False):
    axis = canvas.figure(4, 3).subplots()
    axis.plot(values)
    canvas.scaled(axis, np.array(values), positive=not ratio, ratio=ratio)
    drawn(axis.figure)
    return axis


@pytest.mark.parametrize("values", [(0.9, 0.9), (0.5, 0.95), (2**-16, 0.1), (0.99, 65535 / 65536), (1e-3, 0.9999)])
def test_decays_are_on_an_axis_that_shows_nines(values):
    axis = axis_of(*values, ratio=True)
    assert {"0.9", "0.99"} <= set(ticks(axis))
    assert axis.get_ylim()[0] < min(values) <= max(values) < axis.get_ylim()[1] < 1
    spaced = axis.transData.transform([(0, 0.9), (0, 0.99), (0, 0.999)])[:, 1]
    assert spaced[1] - spaced[0] == pytest.approx(spaced[2] - spaced[1])


@pytest.mark.parametrize("values", [(1.0, 1.0), (1.05, 1.15), (0.1, 0.3), (0.02, 3.0), (1e-4, 20.0), (1e-12, 1e3)])
def test_rates_are_on_a_log_axis_with_plain_numbers(values):
    axis = axis_of(*values)
    found = ticks(axis)
    assert axis.get_yscale() == "log"
    assert 2 <= len(found) <= 20
    assert all(float(each) > 0 for each in found)
    assert not any("$" in each for each in found)


# ---- experiments ---------------------------------------------------------------------------------------------


@pytest.fixture
def saved() -> dict[str, np.ndarray]:
    """What the schedule's experiment keeps."""
    steps = np.arange(0, STEPS + 1, 3)
    return {
        "rows": np.array(["as started", "best constants", "learned schedule"]), "curve_steps": steps,
        "curves": np.exp(RNG.standard_normal((3, 6, len(steps)))), "loss_name": np.array("training loss"),
        "groups": np.array(list(MODEL.groups)), "start_lr": np.array(0.1), "start_decay": np.array(0.9),
        "best_constants_lr": np.array(0.3), "best_constants_decay": np.array(0.8),
        "best_constants_losses": RNG.random(7),
        "learned_schedule_lr": RNG.random((STEPS, GROUPS)), "learned_schedule_decay": RNG.random((STEPS, GROUPS)),
        "learned_schedule_losses": RNG.random(7),
    }  # fmt: skip


def test_the_schedule_is_drawn_beside_what_it_has_to_beat(saved):
    figure = drawn(experiment.draw(saved))
    assert titles(figure)[:8] == 2 * ["W1", "b1", "W2", "b2"]
    for axis, start, best in zip(figure.axes[:8], [0.1] * 4 + [0.9] * 4, [0.3] * 4 + [0.8] * 4, strict=True):
        assert [each.get_label() for each in axis.lines] == ["as started", "best constants", "learned"]
        assert set(axis.lines[0].get_ydata()) == {start}
        assert set(axis.lines[1].get_ydata()) == {best}
    curves, outer = figure.axes[8:]
    for line, band, each in zip(curves.lines, curves.collections, saved["curves"], strict=True):
        assert line.get_ydata() == pytest.approx(each.mean(axis=0))
        upper = each.mean(axis=0) + each.std(axis=0, ddof=1)
        assert band.get_paths()[0].vertices[:, 1].max() == pytest.approx(upper.max())
    assert curves.get_ylabel() == "training loss"
    assert [each.get_text() for each in figure.legends[0].get_texts()] == saved["rows"].tolist()
    assert [each.get_ydata().tolist() for each in outer.lines] == [
        saved["best_constants_losses"].tolist(), saved["learned_schedule_losses"].tolist()]  # fmt: skip
    assert [each.get_color() for each in outer.lines] == [each.get_color() for each in curves.lines[1:]]
    assert no_legend_hides_data(figure)


def test_trainings_that_diverged_are_left_out_of_curves(saved):
    saved = {name: value for name, value in saved.items() if "learned" not in name}
    saved["rows"], saved["curves"] = saved["rows"][:2], saved["curves"][:2].copy()
    saved["curves"][0], saved["curves"][1, 0] = np.inf, np.inf
    figure = drawn(experiment.draw(saved))
    assert len(figure.axes) == 2  # no schedule is learned yet
    assert figure.axes[0].lines[1].get_ydata() == pytest.approx(saved["curves"][1, 1:].mean(axis=0))
    assert [each.get_text() for each in figure.legends[0].get_texts()] == ["as started (diverged)", "best constants"]


@pytest.mark.parametrize(("classes", "blocks"), [(3, 1), (12, 2)])
def test_learned_images_are_drawn_above_real_ones(classes, blocks):
    kinds = ("learned", "mean", "real")
    saved = {f"{kind}_images": RNG.random((classes, 2, 3)) for kind in kinds}
    saved |= {f"{row}_losses": RNG.random(5) for row in ("class_means", "best_real_images", "learned_images")}
    saved |= {"rows": np.array(["blank images", "class means", "best real images", "learned images"])}
    figure = drawn(distill.draw(saved))
    shown = [axis for axis in figure.axes if axis.images and axis.get_label() != "<colorbar>"]
    assert len(shown) == 3 * classes
    assert [axis.get_title() for axis in shown if axis.get_title()] == [str(each) for each in range(classes)]
    every = np.concatenate([saved[f"{kind}_images"] for kind in kinds])
    assert np.array_equal(np.sort([axis.images[0].get_array()[0, 0] for axis in shown]), np.sort(every[:, 0, 0]))
    bars = [axis for axis in figure.axes if axis.get_label() == "<colorbar>"]
    assert [bar.get_ylabel() for bar in bars if bar.get_ylabel()] == [each.get_ylabel() for each in bars]
    assert len(bars) == 3 * blocks
    curve = next(axis for axis in figure.axes if "loss" in axis.get_ylabel())
    assert [line.get_label() for line in curve.lines] == ["class means", "best real images", "learned images"]
    assert no_legend_hides_data(figure)


def test_a_matrix_says_its_numbers_and_a_mosaic_its_labels():
    figure = canvas.figure(6, 4)
    left, right = figure.subplots(1, 2)
    parts.matrix(left, np.array([[1.0, 0.04], [0.254, 0.7]]), "x", "y", "title", "share")
    assert [each.get_text() for each in left.texts] == ["1", ".25", ".70"]
    parts.mosaic(right, RNG.random((5, 2, 2)), list("abcde"), columns=3)
    assert [each.get_text() for each in right.texts] == list("abcde")
    assert len(right.images) == 5
    boxes = [each.get_extent() for each in right.images]
    assert len(set(map(tuple, boxes))) == 5
    drawn(figure)


def test_a_legend_names_each_label_once():
    figure = canvas.figure(4, 3)
    axis = figure.subplots()
    for label in "aba":
        axis.plot([0, 1], label=label)
    parts.once(axis)
    assert [each.get_text() for each in axis.get_legend().get_texts()] == ["a", "b"]
