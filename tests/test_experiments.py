"""What the experiments claim, at small budgets, and the parts that a claim rests on against references of their own."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy.stats import spearmanr

import fastrev
from fastrev.experiments import attribute, chaos, distill, main, reverse, select, valley
from fastrev.experiments._shared.datasets import Dataset, load
from fastrev.experiments._shared.influence import Influence, cosines, gradients, hessian
from fastrev.experiments._shared.judging import detection
from fastrev.experiments._shared.networks import Networks
from fastrev.experiments._shared.pool import Pool
from tests.test_commands import table


def ran(name: str, folder, *options: str) -> dict[str, np.ndarray]:
    """What an experiment keeps."""
    assert main([name, *options, "--out", str(folder)]) == 0
    assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    with np.load(folder / f"{name}.npz") as saved:
        return dict(saved)


def test_schedule_beats_the_best_constants(tmp_path, capsys):
    out = tmp_path / "deep" / "results"
    saved = ran("schedule", out, "--meta-steps", "12", "--steps", "50", "--runs", "4")
    printed = capsys.readouterr()
    rows = table(printed.out)
    assert list(rows) == ["as started", "best constants", "learned schedule"]
    started, constants, learned = (loss for loss, _ in rows.values())
    assert constants < 0.3 * started
    assert learned < 0.97 * constants
    assert "12/12" in printed.err  # the progress bar
    assert str(out) in printed.out
    assert saved["learned_schedule_lr"].shape == saved["learned_schedule_decay"].shape == (50, 4)
    assert (saved["learned_schedule_lr"] > 0).all()
    assert ((saved["learned_schedule_decay"] > 0) & (saved["learned_schedule_decay"] < 1)).all()
    assert saved["best_constants_lr"].shape == saved["best_constants_decay"].shape == ()
    assert saved["learned_schedule_init_scale"].shape == saved["best_constants_init_scale"].shape == (4,)
    assert saved["groups"].tolist() == ["W1", "b1", "W2", "b2"]
    assert saved["learned_schedule_losses"].shape == saved["best_constants_losses"].shape == (12,)
    assert saved["rows"].tolist() == list(rows)
    assert saved["curves"].shape == (3, *saved["accuracies"].shape[1:], *saved["curve_steps"].shape)
    assert saved["accuracies"].shape[1] >= 5
    assert saved["curve_steps"][[0, -1]].tolist() == [0, 50]
    assert saved["curves"][:, :, -1].mean(axis=1) == pytest.approx([started, constants, learned], abs=1e-4)
    assert 100 * saved["accuracies"].mean(axis=1) == pytest.approx([each for _, each in rows.values()], abs=0.06)


def test_the_best_constants_are_about_the_best_there_are(tmp_path, capsys):
    """By hand, of 20 seeds: learning rate 2, decay 0.8 to 0.9 reach a test accuracy of about 95 %."""
    ran("schedule", tmp_path, "--meta-steps", "20", "--runs", "4")
    loss, accuracy = table(capsys.readouterr().out)["best constants"]
    assert loss < 0.075
    assert accuracy > 94.5


def test_hypergradients_are_those_of_their_seeds(tmp_path, capsys):
    few = ["--trainings", "4", "--steps", "12", "--hidden", "5", "--lr", "1"]
    saved = ran("hypergradient", tmp_path, *few, "--seed", "3")
    assert saved["gradients"].shape == (4, 12, 4)
    data, model = load(None, 3), fastrev.MLP((64, 5, 10), activation="tanh")
    seed = int(np.random.SeedSequence(3).generate_state(4)[2])

    def loss(log_lr: float) -> float:
        run = fastrev.train(model, model.init(seed, scale=0.05), train=data.train, batch_size=50, seed=seed, decay=0.5,
                            steps=12, lr=np.exp(log_lr))  # fmt: skip
        return model.loss_value(run.w, *data.train)

    assert saved["gradients"][2].sum() == pytest.approx((loss(1e-4) - loss(-1e-4)) / 2e-4, rel=1e-5)
    assert saved["losses"][2] == pytest.approx(loss(0.0))
    assert "of 4 trainings" in capsys.readouterr().out


def test_scales_outgrow_small_ones(tmp_path, capsys):
    saved = ran("scales", tmp_path, "--meta-steps", "40", "--runs", "4")
    rows = table(capsys.readouterr().out)
    assert rows["learned scales"][0] < 0.8 * rows["small scales"][0]
    weights = np.char.startswith(saved["groups"], "W")
    assert (saved["learned_scales_init_scale"][weights] > 0.1).all()
    assert (saved["way"][0] == 0.05).all()
    assert saved["way"].shape == (41, 6)
    assert saved["heuristic"] == pytest.approx([1 / 8, 0, 32**-0.5, 0, 32**-0.5, 0])


def test_a_penalty_for_every_weight_beats_a_single_one(tmp_path, capsys):
    saved = ran("l2", tmp_path, "--meta-steps", "40", "--runs", "4")
    started, single, learned = (loss for loss, _ in table(capsys.readouterr().out).values())
    assert saved["learned_penalties_loss"] < 0.95 * saved["best_single_penalty_loss"]  # on the validation examples
    assert max(learned, single) < 0.55 * started  # on the test examples, where the one is no better than the other
    assert abs(learned - single) < 0.03
    assert saved["learned_penalties_l2"].shape == (650,)
    assert saved["penalties"].shape == (10, 8, 8)
    model = fastrev.MLP((64, 10))
    assert np.array_equal(saved["penalties"][3].ravel(), model.unflatten(saved["learned_penalties_l2"])["W1"][:, 3])


def test_distill_teaches_digits_with_ten_images(tmp_path, capsys):
    saved = ran("distill", tmp_path, "--meta-steps", "120", "--runs", "2")
    rows = table(capsys.readouterr().out)
    assert list(rows) == ["blank images", "class means", "best real images", "learned images"]
    (blank, chance), (means, _), (real, _), (learned, accuracy) = rows.values()
    assert learned < 0.7 * means < 0.3 * blank
    assert learned < 0.7 * real
    assert chance < 20
    assert accuracy > 93
    assert saved["learned_images"].shape == saved["mean_images"].shape == saved["real_images"].shape == (10, 8, 8)
    assert (
        saved["learned_images_lr"].shape == saved["class_means_lr"].shape == saved["best_real_images_decay"].shape == ()
    )
    assert saved["rows"].tolist() == list(rows)


def test_the_best_choice_of_real_images_is_one_of_each_class():
    data = load(None, 0)
    images = distill.best_choice(fastrev.MLP((64, 10)), data, distill.Settings(choices=5), 1.0, 0.9)
    rows = [int(np.flatnonzero((data.train[0] == image).all(axis=1))[0]) for image in images]
    assert data.train[1][rows].tolist() == list(range(10))


def test_labels_find_their_classes(tmp_path, capsys):
    saved = ran("labels", tmp_path, "--meta-steps", "100", "--runs", "2")
    rows = table(capsys.readouterr().out)
    (none, _), (hard, _), (learned, _) = rows.values()
    assert learned < 0.6 * hard < 0.3 * none
    assert saved["learned_labels_y"].shape == (30, 10)
    assert saved["learned_labels_y"].sum(axis=1) == pytest.approx(1)
    assert saved["true"].tolist() == np.repeat(np.arange(10), 3).tolist()
    assert saved["found"] > 0.8


def test_the_valley_of_the_paper(tmp_path):
    """Within what its authors' arithmetic, of coarser ratios for decays, leaves; and to every digit of ours."""
    saved = ran("valley", tmp_path)
    assert saved["losses"].shape == (3, 51)
    assert saved["losses"][:, -1] == pytest.approx([395.30, 356.57, 356.34], abs=0.06)
    assert saved["losses"][:, -1] == pytest.approx([395.355207, 356.603465, 356.304227], abs=1e-6)
    assert saved["losses"][:, 0] == pytest.approx([630.42] * 3, abs=5e-3)
    assert (saved["lr"][0] == np.exp(-4.5)).all()


def test_the_valley_is_an_objective():
    scene = valley.Valley()
    check = fastrev.check_meta_grad(
        scene, valley.W0, valid=lambda w: (scene.loss(w), scene.grad(w)), lr=np.exp(-4.5), decay=0.99, steps=20
    )
    assert check.passed, check


def test_floats_leave_the_way_by_the_law_and_integers_stay(tmp_path, capsys):
    saved = ran("reverse", tmp_path, "--steps", "120")
    decays, errors = saved["decays"], saved["errors"]
    assert saved["bits"] == pytest.approx(-np.log2(decays), rel=0.005)
    assert capsys.readouterr().out.count("exact ") == len(decays)
    slopes = {}
    for i, decay in enumerate(decays.tolist()):
        for j, dtype in enumerate(saved["dtypes"].tolist()):
            grown = np.flatnonzero((errors[i, j] > 1e3 * np.finfo(dtype).eps) & (errors[i, j] < 1))
            slopes[dtype, decay] = np.diff(np.log(errors[i, j, grown]))
    for case in [("float32", 0.7), ("float32", 0.8), ("float64", 0.5), ("float64", 0.7), ("float64", 0.8)]:
        assert len(slopes[case]) > 20  # of which the errors grow far within these steps
        assert np.median(slopes[case]) == pytest.approx(-np.log(case[1]), rel=0.1)
    assert (errors[:, :, 0] == 0).all()


def test_where_a_way_back_breaks():
    assert reverse.broken(np.array([[0, 1e-3, 0.02, 0.001], [0, 0, 0, 0], [0, 0, 0, np.inf]])).tolist() == [2, 4, 3]


def test_chaos_is_heard_of_where_it_begins(tmp_path, capsys):
    saved = ran("chaos", tmp_path, "--points", "60", "--examples", "400")
    below, above = re.findall(r"(below|above) it: .*? (Passed|Failed: training is chaotic)", capsys.readouterr().out)
    assert below == ("below", "Passed")
    assert above == ("above", "Failed: training is chaotic")
    assert saved["turn"] < saved["onset"]
    calm = saved["log_lr"] < saved["onset"]
    assert 5 < calm.sum() < 55
    assert (saved["growths"][calm] <= 1000).all()
    smooth = saved["log_lr"] < 0.9
    slopes = np.gradient(saved["losses"], saved["log_lr"])
    assert saved["gradients"][smooth][1:-1] == pytest.approx(slopes[smooth][1:-1], rel=0.1)


def test_without_chaos_none_is_marked(tmp_path, monkeypatch):
    monkeypatch.setattr(chaos, "LOG_LR", (-3.0, -2.0))
    saved = ran("chaos", tmp_path, "--points", "5", "--examples", "100", "--steps", "5")
    assert np.isnan(saved["onset"])


# ---- multitask -------------------------------------------------------------------------------------------------


def small_networks(theta: dict[str, np.ndarray]) -> Networks:
    rng = np.random.default_rng(0)
    targets = np.eye(3)[rng.integers(3, size=(4, 6))]
    return Networks((rng.standard_normal((4, 6, 5)), targets), 3, theta, ties=np.array([0.2, 0.1]).reshape(2, 1, 1))


@pytest.mark.parametrize("theta", [
    {"l2": np.array([0.3, 0.1]).reshape(2, 1, 1)},
    {"l2": np.array([0.3, 0.1]).reshape(2, 1, 1), "ties": np.full((2, 1, 1), 0.2)},
    {"l2": np.full((2, 4, 1), 0.1), "ties": np.random.default_rng(1).random((2, 4, 4))},
], ids=["l2", "one tie", "all ties"])  # fmt: skip
def test_networks_of_many_tasks_are_an_objective(theta):
    networks, rng = small_networks(theta), np.random.default_rng(2)
    w0 = networks.init(0) + 0.1 * rng.standard_normal(networks.num_params)
    check = fastrev.check_meta_grad(
        networks, w0, valid=lambda w: (w @ w / 2, w), lr=0.3, decay=0.5, steps=8, wrt=("lr", "theta")
    )
    assert check.passed, check


def test_the_penalty_is_the_sum_of_its_terms():
    """Half l2_i |w_i|^2 of each task, and a quarter of c_ij |w_i - w_j|^2 of each ordered pair."""
    rng = np.random.default_rng(1)
    networks = small_networks({"l2": np.full((2, 1, 1), 0.3), "ties": rng.random((2, 4, 4))})
    w = rng.standard_normal(networks.num_params)
    expected = 0.0
    for layer, ties in zip(networks.layers(w), networks.theta["ties"], strict=True):
        for i in range(4):
            expected += 0.3 / 2 * (layer[i] ** 2).sum()
            expected += sum(ties[i, j] / 4 * ((layer[i] - layer[j]) ** 2).sum() for j in range(4) if j != i)
    assert w @ networks.penalized(w) / 2 == pytest.approx(expected)
    assert (np.linalg.eigvalsh(networks.penalty()) > 0).all()


def test_sharing_is_learned_where_it_helps(tmp_path, capsys):
    saved = ran("multitask", tmp_path, "--meta-steps", "60", "--meta-lr", "0.03", "--runs", "1")
    rows = table(capsys.readouterr().out)
    separate, tied, one, learned = (loss for loss, _ in rows.values())
    assert (
        list(rows) == saved["rows"].tolist() == ["separate", "lower layer tied", "one tie a layer", "learned sharing"]
    )
    assert learned < min(separate, tied, one)
    lower, upper = saved["shares"][-1]
    task = np.arange(10)
    same_inputs = (task[:, None] // 5 == task // 5) & ~np.eye(10, dtype=bool)
    same_labels = (task[:, None] % 5 == task % 5) & ~np.eye(10, dtype=bool)
    assert lower[same_inputs].mean() > 2 * lower[~same_inputs & ~np.eye(10, dtype=bool)].mean()
    assert upper[same_labels].mean() > 0.5 > 5 * upper[same_inputs].mean()


# ---- clean and select ------------------------------------------------------------------------------------------


def test_cleaning_finds_wrong_labels(tmp_path):
    saved = ran("clean", tmp_path, "--trials", "1", "--meta-steps", "20", "--runs", "4")
    accuracies = dict(zip(saved["rows"].tolist(), saved["accuracies"].T, strict=True))
    assert (accuracies["cleaned"] > accuracies["plain + valid"]).all()
    assert (accuracies["oracle"] >= accuracies["cleaned"] - 0.005).all()
    assert (saved["scores"][:, 0] > 0.96).all()  # the area under the curve
    assert (saved["scores"][:, 3] > 0.85).all()  # F1
    assert saved["cases"].tolist() == [[0.3, 0], [0.5, 0]]
    assert 0.45 < saved["wrong"].mean() < 0.55


def test_how_well_wrong_labels_are_found():
    wrong, weights = np.array([True, True, False, False]), np.array([0.1, 0.6, 0.5, 0.9])
    assert detection(wrong, weights, weights < 0.55) == pytest.approx((0.75, 0.5, 0.5, 0.5))
    assert detection(wrong, weights, weights < 0)[1:] == (0, 0, 0)


def small_pool() -> Pool:
    rng = np.random.default_rng(0)
    x, y = rng.random((30, 4)), rng.integers(3, size=30)
    data = Dataset((x, y), (x[:9], y[:9]), (x[9:], y[9:]), (2, 2))
    return Pool(fastrev.MLP((4, 5, 3)), data, y, 6, [1, 2], steps=8, lr=1.0, decay=0.9, l2=1e-3)


def test_meta_gradients_of_examples_that_are_not_chosen():
    """Against differences of a training in which the example has a small weight in every step."""
    pool, settings, rows = small_pool(), select.Settings(steps=8, others=24, lr=1.0), np.arange(6)
    loss, gradient = select.meta_gradient(pool, rows, settings, 0, np.random.default_rng(0))
    assert loss == pytest.approx(pool.loss(rows, range(1)))
    steps = np.tile(np.arange(30), (8, 1))

    def loss_at(weights: np.ndarray) -> float:
        run = fastrev.train(pool.model, pool.model.init(0), train=pool.examples, batches=steps, example_weights=weights,
                            lr=1.0, decay=0.9, l2=1e-3)  # fmt: skip
        return pool.model.loss_value(run.w, *pool.data.valid)

    weights = np.where(np.arange(30) < 6, 5.0, 0.0)
    for example in (2, 17):
        moved = [
            loss_at(weights + sign * 1e-4 * (np.arange(30) == example)) for sign in ((1, -1) if example < 6 else (1, 0))
        ]
        slope = (moved[0] - moved[1]) / (2e-4 if example < 6 else 1e-4)
        assert 8 * gradient[example] == pytest.approx(slope, rel=1e-3)


def test_every_way_to_choose_gives_as_many_rows():
    pool, rng = small_pool(), np.random.default_rng(0)
    settings = select.Settings(steps=8, others=24, meta_steps=5)
    for rows in (pool.random(rng), pool.best_of_random(rng, 20), pool.random_exchanges(rng, 20),
                 select.select(pool, rng, settings)[0]):  # fmt: skip
        assert len(np.unique(rows)) == 6
        assert set(rows) <= set(range(30))


def test_what_is_selected_beats_what_cost_as_much(tmp_path):
    saved = ran("select", tmp_path, "--trials", "1", "--meta-steps", "80", "--workers", "2")
    accuracies = dict(zip(saved["rows"].tolist(), saved["accuracies"].T, strict=True))
    for other in ("random", "best of random", "random exchanges"):
        assert (accuracies["selected"] > accuracies[other]).all(), other


FEW = ["--examples", "300", "--queries", "20", "--hidden", "8", "--steps", "120", "--subsets", "20", "--most", "5"]


def test_attribution_ranks_what_its_peers_do_not(tmp_path, capsys):
    saved = ran("attribute", tmp_path, *FEW)
    printed = capsys.readouterr().out
    assert saved["scores"].shape == (3, 4, 20)
    own, *others = saved["scores"].mean(axis=2).T
    assert (own[:2] > 0.95).all()
    assert all((own > other).all() for other in others)
    assert [f"{share:.0%}" for share in saved["shares"]] == ["1%", "5%", "20%"]
    for share, row in zip(saved["shares"], saved["scores"], strict=True):
        shown = " +- ".join(f"{each:.3f}" for each in (row[0].mean(), row[0].std()))
        assert re.search(rf"^{100 * share:.0f} % +{re.escape(shown)} ", printed, re.M)
    assert saved["losses"].shape == (3, 6)
    assert (saved["losses"][:, 0] == saved["losses"][0, 0]).all()
    assert saved["losses"][0, -1] > saved["losses"][2, -1]  # of the most helpful, and of random ones
    assert saved["expected"][0] == pytest.approx(saved["losses"][0, 0])
    assert spearmanr(saved["predicted"][0], saved["real"]).statistic == pytest.approx(
        saved["scores"][1, 0, saved["number"]]
    )
    assert (saved["helpful_effects"] > 0).all()
    assert (saved["harmful_effects"] < 0).all()
    assert saved["helpful_images"].shape == (9, 8, 8)
    assert f"Test digit {saved['number']} is read as a {saved['label']} with probability" in printed
    assert saved["read_as"] == saved["label"]

    figure = attribute.draw(saved)
    figure.canvas.draw()
    own, influence, scores, without = figure.subfigs[1].axes
    assert [axis.get_title() for axis in (own, influence)] == [
        f"{name}: its loss without\na random 5 %" for name in ("attribution", "influence functions")
    ]
    for axis in (own, influence, scores, without):
        title, frame = axis.title.get_window_extent(), axis.get_window_extent()
        assert frame.x0 - 0.2 * frame.width < title.x0 < title.x1 < frame.x1 + 0.2 * frame.width
    assert [each.get_text() for each in scores.get_xticklabels()] == ["1 %", "5 %", "20 %"]
    assert "20 subsets" in scores.get_xlabel()
    assert all(each == round(each) for each in without.get_xticks())
    (legend,) = figure.subfigs[1].legends
    names = [each.get_text() for each in legend.get_texts()]
    assert len(set(names)) == len(names) == 7
    assert {"attribution", "gradient products", "at random", "predicted = real"} < set(names)


def test_where_no_digit_is_read_right_it_says_so(tmp_path, capsys):
    ran("attribute", tmp_path, *FEW[:-4], "--subsets", "3", "--most", "2", "--queries", "2", "--lr", "1e-9")
    printed = capsys.readouterr().out
    assert "No test digit is read right. Number " in printed
    assert ", is read as a " in printed
    assert " with probability" in printed


def test_influence_functions_are_exact_at_the_optimum():
    """Of a strictly convex problem: beside the optimum after a small move of a weight."""
    rng = np.random.default_rng(0)
    x, model = rng.standard_normal((12, 3)), fastrev.MLP((3, 1), loss="squared_error")
    train, asked = (x[:8], rng.standard_normal(8)), (x[8:], rng.standard_normal(4))

    def optimum(weights: np.ndarray) -> np.ndarray:
        design = np.column_stack([train[0], np.ones(8)])
        return np.linalg.solve(design.T * weights @ design, design.T * weights @ train[1])

    w, losses = optimum(np.ones(8)), []
    for sign in (1, -1):
        w_moved = optimum(np.ones(8) + sign * 1e-5 * (np.arange(8) == 3))
        losses.append([model.loss_value(w_moved, asked[0][q : q + 1], asked[1][q : q + 1]) for q in range(4)])
    of_train, of_asked = gradients(model, w, train), gradients(model, w, asked)
    effects = Influence(hessian(model, w, train), of_train).effects(of_asked, 0.0)
    assert effects[:, 3] == pytest.approx(-np.subtract(*losses) / 2e-5, rel=1e-5)
    assert np.diag(cosines(of_train, of_train)) == pytest.approx(1)
