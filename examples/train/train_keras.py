"""Trains the model of the flights in Keras, on TensorFlow (extra `tft`)."""

import argparse

import flights
import keras
import numpy as np
import tensorflow as tf

import penstock


def example(batch: dict[str, tf.Tensor]) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """From columns to what the model takes, and the label."""
    numbers = tf.stack([batch[name] for name in flights.NUMBERS], axis=1)
    categories = tf.stack([batch[name] for name in flights.CATEGORIES], axis=1) + flights.OFFSETS
    return {"numbers": numbers, "categories": categories}, tf.cast(
        batch[flights.LABEL] >= flights.LATE_MINUTES, tf.float32
    )


def make_model() -> keras.Model:
    """The categories embedded, the numbers, a hidden layer, and the logit of being late."""
    numbers = keras.Input([len(flights.NUMBERS)], name="numbers")
    categories = keras.Input([len(flights.CATEGORIES)], name="categories", dtype="int64")
    embedded = keras.layers.Flatten()(keras.layers.Embedding(flights.TABLE_ROWS, flights.WIDTH)(categories))
    hidden = keras.layers.Dense(flights.HIDDEN, "relu")(keras.layers.Concatenate()([embedded, numbers]))
    model = keras.Model({"numbers": numbers, "categories": categories}, keras.layers.Dense(1)(hidden))
    model.compile(keras.optimizers.Adam(flights.LEARNING_RATE), keras.losses.BinaryCrossentropy(from_logits=True))
    return model


def main() -> None:
    """Trains, and prints the loss of each epoch, and that of the eval split."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True, help="OUTPUT of prepare")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=1, help="of the weights, and of the order of the rows")
    flags = parser.parse_args()

    keras.utils.set_random_seed(flags.seed)
    model = make_model()
    loaded = penstock.load(flags.dataset, "train", columns=flights.COLUMNS).shuffle(flags.seed)
    train = loaded.tf_data(flags.batch_size, missing=flights.MISSING, last="drop").map(example)
    print(f"train: {len(loaded):,} flights")
    history = model.fit(train, epochs=flags.epochs, shuffle=False, verbose=0)  # the dataset shuffles each epoch anew
    for epoch, loss in enumerate(history.history["loss"]):
        print(f"epoch {epoch + 1}   loss {loss:.4f}")

    held_out = (
        penstock.load(flags.dataset, "eval", columns=flights.COLUMNS)
        .tf_data(4096, missing=flights.MISSING)
        .map(example)
    )
    found = [(model(inputs)[:, 0].numpy(), late.numpy()) for inputs, late in held_out]
    print(flights.summary(*map(np.concatenate, zip(*found, strict=True))))


if __name__ == "__main__":
    main()
