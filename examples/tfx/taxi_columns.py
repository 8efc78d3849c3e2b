"""The columns of a taxi trip, by what becomes of them; a module beside the one that TFX calls."""

NUMBERS = ["trip_miles", "fare", "trip_seconds"]
TEXTS = ["payment_type", "company"]
COORDINATES = ["pickup_latitude", "pickup_longitude", "dropoff_latitude", "dropoff_longitude"]
CATEGORIES = [
    "trip_start_hour",
    "trip_start_day",
    "trip_start_month",
    "pickup_census_tract",
    "dropoff_census_tract",
    "pickup_community_area",
    "dropoff_community_area",
]
FARE = "fare"
LABEL = "tips"
ALL = [*NUMBERS, *TEXTS, *COORDINATES, *CATEGORIES, LABEL]

# Terms of a vocabulary, buckets for those beyond them, and buckets of a coordinate.
VOCABULARY = 1000
UNKNOWN = 10
BUCKETS = 10


def transformed(name: str) -> str:
    """The name of a feature."""
    return f"{name}_xf"
