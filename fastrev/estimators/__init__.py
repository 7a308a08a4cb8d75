"""scikit-learn estimators that learn their own learning rates, momentum, penalties and initial scales.

Examples
--------
>>> from fastrev.estimators import MetaMLPClassifier
>>> from sklearn.datasets import load_wine
>>> from sklearn.model_selection import cross_val_score
>>> X, y = load_wine(return_X_y=True)
>>> bool(cross_val_score(MetaMLPClassifier(random_state=0), X, y, cv=3).mean() > 0.94)
True
"""

from fastrev._engine.extras import require

require("sklearn", "sklearn", "fastrev.estimators")

from fastrev.estimators._classifier import MetaMLPClassifier as MetaMLPClassifier  # noqa: E402  (needs it)
from fastrev.estimators._regressor import MetaMLPRegressor as MetaMLPRegressor  # noqa: E402

__all__ = ["MetaMLPClassifier", "MetaMLPRegressor"]
