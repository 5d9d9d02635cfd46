"""The exported signatures, loaded as TF Serving would load them."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.core.protobuf import saved_model_pb2

from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.preprocessing import flatten_and_scale
from bnpipe.data.records.examples import encode
from bnpipe.serving.export import classifier
from bnpipe.serving.export.folding import BatchNormalization, Dense, LayerNormalization, Relu
from bnpipe.serving.export.signatures import SIGNATURES
from tests.child import environment

HEIGHT, WIDTH, CLASSES = 6, 5, 4
INFO = DatasetInfo("shapes", "1.0.0", HEIGHT, WIDTH, ("a", "b", "c", "ä"), {}, True)


def network(normalization=None):
    generator = np.random.default_rng(0)

    def floats(*shape):
        return generator.normal(size=shape).astype(np.float32)

    layers = [Dense("hidden", floats(HEIGHT * WIDTH, 8), floats(8)), Relu("relu")]
    if normalization is BatchNormalization:
        norm = BatchNormalization("norm", floats(8), floats(8), floats(8), floats(8) ** 2, 1e-3)
        layers.insert(1, norm)
    if normalization is LayerNormalization:
        layers.insert(1, LayerNormalization("norm", floats(8), floats(8), 1e-3))
    return [*layers, Dense("logits", floats(8, CLASSES), floats(CLASSES))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "saved_model"
    classifier.export(folder, network(), INFO)
    return folder


@pytest.fixture(scope="module")
def served(folder):
    return tf.saved_model.load(str(folder)).signatures


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).integers(0, 256, (7, HEIGHT, WIDTH), np.uint8)


@pytest.fixture(scope="module")
def expected(images):
    hidden, _, logits = network()
    x = np.maximum(flatten_and_scale(images) @ hidden.kernel + hidden.bias, 0)
    exponentials = np.exp(x @ logits.kernel + logits.bias)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def png(image, **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", **options)
    return file.getvalue()


def test_five_ways_of_asking_give_one_answer(served, images, expected):
    features = flatten_and_scale(images)
    records = [row.tobytes() for row in encode({"features": features})]
    asked = {
        "serving_default": {"features": features},
        "serve_images": {"images": images},
        "serve_png": {"image_bytes": tf.constant([png(image) for image in images])},
        "classify": {"inputs": tf.constant(records)},
        "probabilities_only": {"features": features},
    }
    assert set(served) == set(asked) == set(SIGNATURES)
    for name, inputs in asked.items():
        answer = served[name](**{key: tf.constant(value) for key, value in inputs.items()})
        scores = answer["scores" if name == "classify" else "probabilities"]
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6, err_msg=name)
        if "class_id" in answer:
            np.testing.assert_array_equal(answer["class_id"], expected.argmax(1))
    answer = served["classify"](inputs=tf.constant(records))
    labels = [[label.decode() for label in row] for row in answer["classes"].numpy()]
    assert labels == [list(INFO.label_names)] * 7


def test_the_table_makes_requests_of_images(served, images, expected):
    for name, signature in SIGNATURES.items():
        request = {key: tf.constant(value) for key, value in signature.request(images).items()}
        answer = served[name](**request)
        assert set(answer) == set(signature.outputs), name
        scores = answer["scores" if name == "classify" else "probabilities"]
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6, err_msg=name)


def test_names_types_and_shapes_are_the_contract(folder):
    (meta_graph,) = saved_model_pb2.SavedModel.FromString(
        (folder / "saved_model.pb").read_bytes()
    ).meta_graphs
    assert set(meta_graph.meta_info_def.tags) == {"serve"}

    def tensors(infos):
        return {
            name: (tf.dtypes.as_dtype(info.dtype).name, [d.size for d in info.tensor_shape.dim])
            for name, info in infos.items()
        }

    probabilities = {"probabilities": ("float32", [-1, CLASSES])}
    both = {**probabilities, "class_id": ("int64", [-1])}
    features = {"features": ("float32", [-1, HEIGHT * WIDTH])}
    contract = {
        "serving_default": (features, both),
        "serve_images": ({"images": ("uint8", [-1, HEIGHT, WIDTH])}, both),
        "serve_png": ({"image_bytes": ("string", [-1])}, both),
        "classify": (
            {"inputs": ("string", [-1])},
            {"classes": ("string", [-1, CLASSES]), "scores": ("float32", [-1, CLASSES])},
        ),
        "probabilities_only": (features, probabilities),
    }
    for name, (inputs, outputs) in contract.items():
        signature = meta_graph.signature_def[name]
        assert tensors(signature.inputs) == inputs, name
        assert tensors(signature.outputs) == outputs, name


def test_the_graph_needs_no_xla_no_python_and_no_gpu(folder):
    (meta_graph,) = saved_model_pb2.SavedModel.FromString(
        (folder / "saved_model.pb").read_bytes()
    ).meta_graphs
    nodes = [*meta_graph.graph_def.node]
    for function in meta_graph.graph_def.library.function:
        assert "_XlaMustCompile" not in function.attr
        nodes += function.node_def
    assert not {node.op for node in nodes} & {"PyFunc", "EagerPyFunc", "PyFuncStateless"}
    # TensorFlow itself places the saving and restoring of variables on the processor.
    assert {node.device for node in nodes} <= {"", "/device:CPU:0", "/device:CPU:*"}


@pytest.mark.parametrize("size", [0, 1, 64])
def test_a_row_is_answered_alike_in_any_batch(served, images, expected, size):
    rows = np.arange(size) % 7
    answer = served["serve_images"](images=tf.constant(images[rows]))
    assert answer["probabilities"].shape == (size, CLASSES)
    np.testing.assert_allclose(answer["probabilities"], expected[rows], atol=1e-5)
    files = tf.constant([png(images[row]) for row in rows], tf.string)
    assert served["serve_png"](image_bytes=files)["class_id"].shape == (size,)


@pytest.mark.parametrize("normalization", [BatchNormalization, LayerNormalization])
def test_a_normalisation_that_is_not_folded_is_in_the_graph(normalization, images):
    layers = network(normalization)
    dense, norm = layers[:2]
    x = (flatten_and_scale(images) @ dense.kernel + dense.bias).astype(np.float64)
    if normalization is BatchNormalization:
        mean, variance = norm.mean, norm.variance
    else:
        mean, variance = x.mean(1, keepdims=True), x.var(1, keepdims=True)
    x = np.maximum(norm.gamma * (x - mean) / np.sqrt(variance + norm.epsilon) + norm.beta, 0)
    x = np.exp(x @ layers[-1].kernel + layers[-1].bias)
    answer = classifier.Classifier(layers, INFO).signature("serve_images")(tf.constant(images))
    np.testing.assert_allclose(
        answer["probabilities"], x / x.sum(axis=1, keepdims=True), rtol=1e-4, atol=1e-6
    )


def test_rows_that_are_not_finite_are_marked_and_harm_no_others(served, images, expected):
    features = flatten_and_scale(images)
    features[2, 3], features[4, 0] = np.nan, np.inf
    answer = served["serving_default"](features=tf.constant(features))
    good = [0, 1, 3, 5, 6]
    np.testing.assert_allclose(answer["probabilities"].numpy()[good], expected[good], rtol=1e-4)
    assert np.isnan(answer["probabilities"].numpy()[[2, 4]]).all()
    assert answer["class_id"].numpy()[[2, 4]].tolist() == [-1, -1]
    records = tf.constant([row.tobytes() for row in encode({"features": features})])
    assert np.isnan(served["classify"](inputs=records)["scores"].numpy()[[2, 4]]).all()


def header_of(width, height):
    """The first bytes of a PNG file that claims a size, and nothing after them."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13)
    return start + body + struct.pack(">I", zlib.crc32(body))


GRAY = np.zeros((HEIGHT, WIDTH), np.uint8)
WANTED = "expected 8-bit grayscale PNG images, 5 wide and 6 high"


@pytest.mark.parametrize(
    ("file", "complaint"),
    [
        (b"", f"{WANTED}; received one with another header"),
        (b"not a png", f"{WANTED}; received one with another header"),
        (png(GRAY.T), f"{WANTED}; received one with another header"),
        (png(np.zeros((HEIGHT, WIDTH, 3), np.uint8)), f"{WANTED}; received one with another"),
        (header_of(60000, 60000), f"{WANTED}; received one with another header"),
        (png(GRAY) + bytes(100_000), f"{WANTED}; received one of more than 65656 bytes"),
        (header_of(WIDTH, HEIGHT), "Invalid PNG"),
        (png(GRAY)[:-20], "Invalid PNG"),
    ],
    ids=["empty", "text", "turned", "color", "bomb", "long", "header only", "cut"],
)
def test_a_file_that_is_not_such_an_image_is_refused_by_name(served, file, complaint):
    with pytest.raises(tf.errors.InvalidArgumentError, match=complaint):
        served["serve_png"](image_bytes=tf.constant([png(GRAY), file]))


def test_an_example_without_its_features_is_refused_by_name(served):
    record = encode({"pixels": np.zeros((1, 3), np.float32)})[0].tobytes()
    with pytest.raises(tf.errors.InvalidArgumentError, match="features"):
        served["classify"](inputs=tf.constant([record]))


EXPORT = """
import sys
from pathlib import Path
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(3)
for step in range(100):  # other work: moves the counters of the process
    tf.function(lambda x: x + step).get_concrete_function(tf.constant(1.0))
sys.path.insert(0, sys.argv[1])
from test_signatures import INFO, network
from bnpipe.serving.export import classifier
classifier.export(Path(sys.argv[2]), network(), INFO)
"""


def test_equal_networks_give_equal_bytes_in_every_process(folder, tmp_path):
    other = tmp_path / "other"
    here = Path(__file__).parent
    result = subprocess.run(
        [sys.executable, "-c", EXPORT, str(here), str(other)],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    again = tmp_path / "again"
    classifier.export(again, network(), INFO)
    files = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    assert Path("saved_model.pb") in files
    for path in files:
        assert (folder / path).read_bytes() == (other / path).read_bytes(), path
        assert (folder / path).read_bytes() == (again / path).read_bytes(), path
