"""Why rows are rejected."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Reason:
    """Why a row is rejected: a stable code such as `schema.type`, and a sentence with column and value."""

    code: str
    detail: str
