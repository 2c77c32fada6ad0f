"""Probability distributions: those of `jax.scipy.stats`, a module each."""

from __future__ import annotations

from covector.scipy.stats import (
    bernoulli as bernoulli,
)
from covector.scipy.stats import (
    beta as beta,
)
from covector.scipy.stats import (
    binom as binom,
)
from covector.scipy.stats import (
    cauchy as cauchy,
)
from covector.scipy.stats import (
    expon as expon,
)
from covector.scipy.stats import (
    gamma as gamma,
)
from covector.scipy.stats import (
    laplace as laplace,
)
from covector.scipy.stats import (
    logistic as logistic,
)
from covector.scipy.stats import (
    multivariate_normal as multivariate_normal,
)
from covector.scipy.stats import (
    norm as norm,
)
from covector.scipy.stats import (
    poisson as poisson,
)
from covector.scipy.stats import (
    t as t,
)
from covector.scipy.stats import (
    uniform as uniform,
)
