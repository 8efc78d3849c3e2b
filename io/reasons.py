"""Why rows are rejected."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Reason:
    """Why a row is rejected.

    Attributes:
      code: stable, such as `schema.type`.
      detail: a sentence with column and value.
    """

    code: str
    detail: str
