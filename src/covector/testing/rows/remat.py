"""Op-table rows of what `checkpoint` is made of."""

from __future__ import annotations

import numpy as np

from covector.ops.remat import name_value
from covector.testing.optable import NUMBERS, OpRow

ROWS = (OpRow("name", name_value, dtypes=NUMBERS, params={"name": "kept"}, numpy=np.positive),)
