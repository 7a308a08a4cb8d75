"""A classifier that learns how it is trained."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from scipy.special import log_expit, log_softmax
from sklearn.base import ClassifierMixin
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d

from fastrev._engine.arguments import fault
from fastrev._engine.types import AnyArray, FloatArray
from fastrev.estimators._base import MetaMLP
from fastrev.estimators._examples import Examples, merged, sums


class MetaMLPClassifier(ClassifierMixin, MetaMLP):
    """A multilayer perceptron that learns its own learning rates, momentum, penalties and initial scales.

    `fit` makes several trainings at a time, each on another part of the training data, differentiates the loss on what
    it held out by all that is in `learn`, and improves these (`fastrev.tune`); then it trains on everything, with what
    it has learned.  Inputs are standardised within.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int
        Units of the hidden layers; ``()`` is logistic regression.
    activation : {"relu", "tanh", "sigmoid", "softplus", "identity"}
        Of the hidden layers.
    optimizer : {"sgd", "adam"}, fastrev.SGD or fastrev.Adam, optional
        What makes the steps, with the hyperparameters to begin with if it is one that holds them: as finely as they are
        given there, in the shapes of `fastrev.meta_grad`, they are learned.  Default: "sgd", SGD with momentum.
    lr : float or array_like, optional
        Learning rates to begin with, likewise, where `optimizer` holds none.  Default: one for each step, 0.1 of "sgd"
        and 0.001 of "adam".
    decay : float or array_like, optional
        Momentum decays of "sgd" to begin with, likewise.  Default: 0.9.
    l2 : float or array_like, optional
        Penalty coefficients to begin with: of all parameters or of each group W1, b1, W2, ...  Default: one for each
        group, 1e-3.
    init_scale : float or (G,) array_like, optional
        Standard deviations of the initial weights to begin with, of all and biases too, or of each group.  Default:
        ``1 / sqrt(fan_in)`` for weights, 0 for biases.
    learn : tuple of str or "auto"
        What is learned: names of the optimizer ("lr", "decay"; "lr", "beta1", ...), "l2" and "init_scale"; what is not
        stays as it is given.  "auto": all of these, but for what is 0.  ``()`` trains only, with what was learned
        elsewhere.
    validation_fraction : float
        Share of the training data that a training holds out, another one each time; where an example has one label,
        of each class alike.
    steps : int or "auto"
        Steps of a training.  "auto": as many as `lr`, `decay` or `optimizer` say; else those of 20 passes over the
        data, though at least 200 and at most 1000.
    batch_size : int, "auto" or None
        Examples a step, or all that a training has if these are fewer.  "auto": 64.  None: always all.
    class_weight : dict, "balanced" or None
        Weights of classes, as in scikit-learn, by which those of examples are multiplied.
    meta_steps, meta_lr, runs
        Length, rate and trainings a meta-step of the learning, as in `fastrev.tune`.
    workers : int, map-like callable, or object with a method ``map``
        Who makes these trainings, as in `fastrev.tune`; the result has the same bits with each.  What cannot be copied,
        such as a pool, cannot be cloned either, by searches and cross-validation for example: give these an int.
    dtype : {"float32", "float64"}
        Precision of the gradients' arithmetic.  Weights are float64 in either case.
    random_state : int, RandomState instance or None
        Of initial weights, batches and what is held out.
    progress : bool
        Show a progress bar.

    Attributes
    ----------
    classes_ : (n_classes,) ndarray
        The labels; of multilabel targets their numbers.
    optimizer_ : fastrev.SGD or fastrev.Adam
        With all of its own that was learned.
    lr_, decay_, l2_, init_scale_ : float or ndarray
        As learned, in the shapes of the parameters; as given where not learned.  Of "adam" `beta1_`, `beta2_`, ... in
        place of `decay_`.
    loss_ : float
        Mean loss on what was held out, of fresh trainings with these; None where nothing was learned.
    tuned_ : fastrev.TuneResult
        How the learning went, without the data: ``tuned_.history``, ``tuned_.plot()``; None where nothing was learned.
    model_ : fastrev.MLP
        The network, of standardised inputs.
    w_ : (P,) float64 ndarray
        Its weights: ``model_.outputs(w_, scaler_.transform(X))``.
    coefs_, intercepts_ : list of float64 ndarray
        The same by layer, of shapes (inputs, outputs) and (outputs,).
    scaler_ : sklearn.preprocessing.StandardScaler
        That of the inputs.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    See Also
    --------
    fastrev.tune : The learning by itself.
    MetaMLPRegressor : The same for real targets.

    Notes
    -----
    A fit costs some 50 trainings to find a rate to begin with and to choose in the end, and ``2 * meta_steps * runs``
    between, half of them differentiated, 230 in all by default: some seconds for 1,000 examples.  The first one in an
    environment compiles as well.

    It depends on what examples there are and on their weights, not on their order: `sample_weight` 2 is an example
    given twice and 0 one that is not there, to the last bit, and copies of an example are never on both sides of a
    split.

    With `relu` derivatives are those of the piece that a training runs through; smooth activations such as "tanh" are
    better for `fastrev.metasmoothness`.

    References
    ----------
    D. Maclaurin, D. Duvenaud, R. P. Adams, "Gradient-based Hyperparameter Optimization through Reversible Learning",
    ICML 2015, section 3.

    Examples
    --------
    >>> from fastrev.estimators import MetaMLPClassifier
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.model_selection import train_test_split
    >>> X, X_test, y, y_test = train_test_split(*load_breast_cancer(return_X_y=True), random_state=0)
    >>> classifier = MetaMLPClassifier(random_state=0).fit(X, y)
    >>> classifier.score(X_test, y_test) > 0.95, classifier.lr_.shape
    (True, (200,))
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        optimizer: Any = None,
        lr: Any = None,
        decay: Any = None,
        l2: Any = None,
        init_scale: Any = None,
        learn: Any = "auto",
        validation_fraction: float = 0.2,
        steps: Any = "auto",
        batch_size: Any = "auto",
        class_weight: Any = None,
        meta_steps: int = 20,
        meta_lr: float = 0.2,
        runs: int = 4,
        workers: Any = 1,
        dtype: Any = "float32",
        random_state: Any = None,
        progress: bool = False,
    ) -> None:
        super().__init__(
            hidden_layer_sizes, activation, optimizer=optimizer, lr=lr, decay=decay, l2=l2, init_scale=init_scale,
            learn=learn, validation_fraction=validation_fraction, steps=steps, batch_size=batch_size,
            meta_steps=meta_steps, meta_lr=meta_lr, runs=runs, workers=workers, dtype=dtype, random_state=random_state,
            progress=progress,
        )  # fmt: skip
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn how to train, and train.

        Parameters
        ----------
        X : (n_samples, n_features) array_like or DataFrame
            Inputs.
        y : (n_samples,) array_like, or (n_samples, n_labels) array_like of 0 and 1
            Labels of any kind; or multilabel targets, which have a probability each.
        sample_weight : (n_samples,) array_like, optional
            Weights of the examples, not negative.

        Returns
        -------
        MetaMLPClassifier
            Itself.

        Raises
        ------
        ValueError
            If an argument is at fault.
        DivergenceError
            If no training ends, at whatever rates.

        Warns
        -----
        RuntimeWarning
            After Ctrl-C, if a meta-step was made: it is fitted with what was learned so far.
        """
        X, y, weights = self._checked(X, y, sample_weight)
        check_classification_targets(y)
        if type_of_target(y) == "multilabel-indicator":
            if self.class_weight is not None:
                raise fault("class_weight", "be None where targets are multilabel", repr(self.class_weight))
            self.classes_ = np.arange(y.shape[1])
            self._learn(merged(X, y.astype(np.float64), weights), "logistic", y.shape[1])
            return self
        y = column_or_1d(y, warn=True)
        self.classes_, index = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise fault("y", "hold at least two classes, of examples with a weight", f"one, {self.classes_[0]}")
        examples = self._weighed(merged(X, index, weights))
        if len(np.unique(examples.y[examples.weights > 0])) < 2:
            raise fault("class_weight", "leave weight to at least two classes of y", f"{self.class_weight}")
        self._learn(examples, "cross_entropy", len(self.classes_))
        return self

    def _encoded(self, name: str, y: AnyArray) -> AnyArray:
        if self._multilabel:
            if y.shape[1:] != self.classes_.shape:
                raise fault(name, f"hold {len(self.classes_)} labels of 0 and 1 for each example", f"shape {y.shape}")
            return y.astype(np.float64)
        y = column_or_1d(y, warn=True)
        known = np.isin(y, self.classes_)
        if not known.all():
            raise fault(name, "hold labels that fit was given", f"{y[np.argmin(known)]}")
        return np.searchsorted(self.classes_, y)

    def _weighed(self, examples: Examples) -> Examples:
        return examples if self.class_weight is None else examples.weighed(self._factors(examples))

    def _factors(self, examples: Examples) -> FloatArray:
        """Of the weight of each example, by its class."""
        if isinstance(self.class_weight, str) and self.class_weight == "balanced":
            return 1 / sums(examples.y, examples.weights)[examples.y]  # which scikit-learn counts without weights
        factors: FloatArray = compute_sample_weight(self.class_weight, self.classes_[examples.y])
        with np.errstate(over="ignore"):
            finite = np.isfinite(factors * examples.weights)
        if not (finite & (factors >= 0)).all():
            raise fault("class_weight", "hold finite weights, none of them negative", f"{self.class_weight}")
        return factors

    def predict(self, X: Any) -> AnyArray:
        """The most likely labels.

        Parameters
        ----------
        X : (n_samples, n_features) array_like or DataFrame
            Inputs.

        Returns
        -------
        (n_samples,) or (n_samples, n_labels) ndarray
            Of `classes_`; of multilabel targets 0 and 1.

        Raises
        ------
        NotFittedError, ValueError
            If `fit` was not called, or X is at fault.
        """
        inputs = self._inputs(X)
        found = self.model_.predict(self.w_, inputs)
        return found if self._multilabel else np.asarray(self.classes_[found])

    def predict_proba(self, X: Any) -> FloatArray:
        """Probabilities.

        Parameters
        ----------
        X : (n_samples, n_features) array_like or DataFrame
            Inputs.

        Returns
        -------
        (n_samples, n_classes) float64 ndarray
            In the order of `classes_`; of multilabel targets those of 1.

        Raises
        ------
        NotFittedError, ValueError
            If `fit` was not called, or X is at fault.
        """
        inputs = self._inputs(X)
        return self.model_.predict_proba(self.w_, inputs)

    def predict_log_proba(self, X: Any) -> FloatArray:
        """Logarithms of the probabilities.

        Parameters
        ----------
        X : (n_samples, n_features) array_like or DataFrame
            Inputs.

        Returns
        -------
        (n_samples, n_classes) float64 ndarray
            As of `predict_proba`, and finite where these round to 0.

        Raises
        ------
        NotFittedError, ValueError
            If `fit` was not called, or X is at fault.
        """
        inputs = self._inputs(X)
        outputs = self.model_.outputs(self.w_, inputs)
        found: FloatArray = log_expit(outputs) if self._multilabel else log_softmax(outputs, axis=1)
        return found

    @property
    def _multilabel(self) -> bool:
        return self.model_.loss == "logistic"

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
