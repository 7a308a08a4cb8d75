"""A regressor that learns how it is trained."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin

from fastrev._engine.types import AnyArray, FloatArray
from fastrev.estimators._base import MetaMLP, standardiser
from fastrev.estimators._examples import merged


class MetaMLPRegressor(RegressorMixin, MetaMLP):
    """A multilayer perceptron that learns its own learning rates, momentum, penalties and initial scales.

    It is fitted to squared errors as `MetaMLPClassifier` is to cross-entropy.  Inputs and targets are standardised
    within.

    Parameters
    ----------
    hidden_layer_sizes, activation, optimizer, lr, decay, l2, init_scale, learn, steps, batch_size
        As in `MetaMLPClassifier`; ``hidden_layer_sizes=()`` is ridge regression.
    validation_fraction : float
        Share of the training data that a training holds out; another one each time.
    meta_steps, meta_lr, runs, workers, dtype, random_state, progress
        As in `MetaMLPClassifier`.

    Attributes
    ----------
    optimizer_, lr_, decay_, l2_, init_scale_, loss_, tuned_, model_, w_, coefs_, intercepts_, scaler_
        As in `MetaMLPClassifier`; `loss_` is half the mean squared error of standardised targets.
    target_scaler_ : sklearn.preprocessing.StandardScaler
        That of the targets: ``target_scaler_.inverse_transform(model_.outputs(w_, scaler_.transform(X)))``.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    See Also
    --------
    MetaMLPClassifier : The same for classes, with notes.

    References
    ----------
    D. Maclaurin, D. Duvenaud, R. P. Adams, "Gradient-based Hyperparameter Optimization through Reversible Learning",
    ICML 2015, section 3.

    Examples
    --------
    >>> from fastrev.estimators import MetaMLPRegressor
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.model_selection import train_test_split
    >>> X, X_test, y, y_test = train_test_split(*load_diabetes(return_X_y=True), random_state=0)
    >>> regressor = MetaMLPRegressor(random_state=0).fit(X, y)
    >>> regressor.score(X_test, y_test) > 0.3, len(regressor.coefs_)
    (True, 2)
    """

    _real = True

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn how to train, and train.

        Parameters
        ----------
        X : (n_samples, n_features) array_like or DataFrame
            Inputs.
        y : (n_samples,) or (n_samples, n_outputs) array_like
            Targets.
        sample_weight : (n_samples,) array_like, optional
            Weights of the examples, not negative.

        Returns
        -------
        MetaMLPRegressor
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
            After Ctrl-C, as in `MetaMLPClassifier.fit`.
        """
        X, y, weights = self._checked(X, y, sample_weight)
        examples = merged(X, self._encoded("y", y), weights)
        self.target_scaler_ = standardiser("y", examples.y, examples.normalised().weights)
        self._flat = y.ndim == 1
        self._learn(examples._replace(y=self._as_trained(examples.y)), "squared_error", examples.y.shape[1])
        return self

    def _encoded(self, name: str, y: AnyArray) -> FloatArray:
        return y.reshape(len(y), -1).astype(np.float64)

    def _as_trained(self, y: AnyArray) -> FloatArray:
        scaled: FloatArray = self.target_scaler_.transform(y)
        return scaled

    def predict(self, X: Any) -> FloatArray:
        """Predicted targets.

        Parameters
        ----------
        X : (n_samples, n_features) array_like or DataFrame
            Inputs.

        Returns
        -------
        (n_samples,) or (n_samples, n_outputs) float64 ndarray
            As `y` was given.

        Raises
        ------
        NotFittedError, ValueError
            If `fit` was not called, or X is at fault.
        """
        inputs = self._inputs(X)
        found: FloatArray = self.target_scaler_.inverse_transform(self.model_.outputs(self.w_, inputs))
        return found.ravel() if self._flat else found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
