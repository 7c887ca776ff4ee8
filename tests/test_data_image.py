"""A picture is decoded as a person sees it, and fitted as the card says."""

import io
import zipfile

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image as pillow

from flaxtl.card import Array, Image
from flaxtl.data import Augment, open_source, to_predict, with_turned_classes
from flaxtl.data.image import ImagePreprocess, ZipMember, decode
from flaxtl.data.preprocess import preprocess_for
from flaxtl.data.source import Source
from flaxtl.errors import DataError

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (6, 5, 3)).astype(np.uint8)
GREY = RNG.integers(0, 256, (6, 5)).astype(np.uint8)


def encoded(picture, form="PNG", **options):
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def smooth(size=(48, 64)):
    y, x = np.mgrid[: size[0], : size[1]]
    return np.stack([y * 255 / size[0], x * 255 / size[1], (x + y) * 255 / sum(size)], -1).astype(np.uint8)


# Decoding


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM"])
def test_colour_and_grey_survive(form):
    assert np.array_equal(decode(encoded(pillow.fromarray(COLOUR), form)), COLOUR)
    assert np.array_equal(decode(encoded(pillow.fromarray(GREY), form)), GREY[..., None])


@pytest.mark.parametrize(
    ("orientation", "seen"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: np.swapaxes(a, 0, 1)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: np.swapaxes(a[::-1, ::-1], 0, 1)),
        (8, lambda a: np.rot90(a)),
    ],
)
def test_the_orientation_of_the_camera_is_applied(orientation, seen):
    exif = pillow.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(decode(encoded(pillow.fromarray(COLOUR), exif=exif)), seen(COLOUR))


def test_palettes_give_their_colours():
    picture = pillow.fromarray(COLOUR).quantize(8)
    assert np.array_equal(decode(encoded(picture)), np.asarray(picture.convert("RGB")))
    assert np.array_equal(decode(picture), np.asarray(picture.convert("RGB")))


def test_one_bit_pictures_are_black_and_white():
    bits = GREY > 127
    assert np.array_equal(decode(encoded(pillow.fromarray(bits)))[..., 0], bits * np.uint8(255))


@pytest.mark.parametrize("highest", [65535, 200])
def test_sixteen_bits_are_scaled_by_their_range_so_that_a_dark_picture_stays_dark(highest):
    values = RNG.integers(0, highest + 1, (6, 5)).astype(np.uint16)
    wanted = np.round(values / 257.0)[..., None]
    assert np.array_equal(decode(encoded(pillow.fromarray(values))), wanted)
    assert np.array_equal(decode(encoded(pillow.fromarray(values), "TIFF")), wanted)
    assert np.array_equal(decode(b"P5 5 6 65535\n" + values.astype(">u2").tobytes()), wanted)


def test_float_pictures_are_scaled_and_odd_ranges_are_refused(tmp_path):
    values = np.linspace(0, 1, 30, dtype=np.float32).reshape(6, 5)
    for top in (1.0, 255.0):
        found = decode(encoded(pillow.fromarray(values * top), "TIFF"))
        assert np.abs(found[..., 0] - values * 255.0).max() <= 0.501
    for wrong in (values * 1000, values - 0.5, np.full_like(values, np.nan)):
        file = tmp_path / "wrong.tif"
        pillow.fromarray(wrong).save(file)
        with pytest.raises(DataError, match=r"wrong\.tif cannot be decoded: its values"):
            decode(file)


def test_cmyk_becomes_red_green_blue():
    picture = smooth()
    found = decode(encoded(pillow.fromarray(picture).convert("CMYK"), "JPEG", quality=95))
    assert np.abs(found.astype(int) - picture).mean() < 4


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_is_laid_on_white(mode):
    base = pillow.fromarray(np.zeros((2, 2), np.uint8)).convert(mode)
    base.putalpha(pillow.fromarray(np.array([[0, 255], [255, 0]], np.uint8)))
    assert decode(base)[..., 0].tolist() == [[255, 0], [0, 255]]


def test_a_transparent_colour_of_a_palette_or_of_grey_is_white():
    picture = pillow.new("P", (2, 1))
    picture.putpalette([0, 0, 0, 10, 20, 30])
    picture.putpixel((1, 0), 1)
    assert decode(encoded(picture, transparency=0)).tolist() == [[[255] * 3, [10, 20, 30]]]
    grey = pillow.fromarray(np.array([[0, 7]], np.uint8))
    assert decode(encoded(grey, transparency=0))[0, :, 0].tolist() == [255, 7]


def test_the_first_frame_of_an_animation_counts():
    frames = [pillow.new("L", (4, 4), value) for value in (30, 200)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.unique(decode(data)).tolist() == [30]
    with pillow.open(io.BytesIO(data)) as animation:
        animation.seek(1)
        assert np.unique(decode(animation)).tolist() == [30]


@pytest.mark.parametrize(
    ("values", "first"),
    [
        (np.ones((2, 2), bool), 255),
        (np.full((2, 2), 0.5), 128),
        (np.full((2, 2), 0.5, np.float16), 128),
        (np.full((2, 2), 7, np.int64), 7),
        (np.full((2, 2, 5), 9, np.uint8), 9),
    ],
)
def test_arrays_of_every_kind(values, first):
    found = decode(values)
    assert found.dtype == np.uint8
    assert found.shape == (values.shape if values.ndim == 3 else (*values.shape, 1))
    assert np.unique(found).tolist() == [first]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.full((2, 2), 256), "int64 from 256 to 256"),
        (np.full((2, 2), -1), "int64 from -1"),
        (np.full((2, 2), 200.0), "float64 from 200"),
        (np.full((2, 2), np.nan), "float64 from nan"),
        (np.full((2, 2), 1j), "complex128"),
        (np.full((2, 2), "x"), "<U1"),
        (np.zeros(4), r"shape \(4,\)"),
        (np.zeros((0, 4)), "shape"),
    ],
)
def test_arrays_that_are_no_pictures(values, words):
    with pytest.raises(DataError, match=words):
        decode(values)


def test_arrays_of_jax_decode_too():
    import jax.numpy as jnp

    assert np.array_equal(decode(jnp.asarray(COLOUR)), COLOUR)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "TIFF"])
def test_a_truncated_file_is_named(form, tmp_path):
    noise = pillow.fromarray(RNG.integers(0, 256, (40, 40, 3)).astype(np.uint8))
    file = tmp_path / "cut.bin"
    file.write_bytes(encoded(noise, form)[: -len(encoded(noise, form)) // 2])
    with pytest.raises(DataError, match=r"cut\.bin"):
        decode(file)


def test_files_that_are_empty_missing_or_no_pictures_are_named(tmp_path):
    for content, words in ((b"", "is empty"), (b"no picture at all", "is not in a format")):
        (tmp_path / "bad.png").write_bytes(content)
        with pytest.raises(DataError, match=rf"bad\.png {words}"):
            decode(tmp_path / "bad.png")
    with pytest.raises(DataError, match=r"nowhere\.png cannot be decoded"):
        decode(tmp_path / "nowhere.png")


def test_a_damaged_member_of_an_archive_is_named(tmp_path):
    data = encoded(pillow.fromarray(np.zeros((64, 64), np.uint8)), "BMP")
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.bmp", data)
    member = ZipMember(tmp_path / "a.zip", "x.bmp")
    assert decode(member).shape == (64, 64, 1)
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[36:60] = b"\xff" * 24  # what follows the member's header
    (tmp_path / "b.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"b\.zip/x\.bmp cannot be decoded"):
        decode(ZipMember(tmp_path / "b.zip", "x.bmp"))


# Fitting


def test_grey_and_colour_become_what_the_network_takes():
    [three] = ImagePreprocess(Image((6, 5), 3)).rows(GREY)
    assert np.array_equal(three, np.repeat(GREY[..., None], 3, -1))
    [one] = ImagePreprocess(Image((6, 5), 1)).rows(COLOUR)
    assert np.array_equal(one[..., 0], np.asarray(pillow.fromarray(COLOUR).convert("L")))
    [five] = ImagePreprocess(Image((6, 5), 5)).rows(np.zeros((12, 10, 5), np.uint8))
    assert five.shape == (6, 5, 5)
    with pytest.raises(DataError, match="has 4 channels; the network takes 3"):
        ImagePreprocess(Image((6, 5), 3)).rows(np.zeros((6, 5, 4), np.uint8))


@pytest.mark.parametrize("shape", [(48, 64), (64, 48), (50, 50), (30, 91)])
@pytest.mark.parametrize(("side", "share"), [(28, 0.875), (22, 0.9), (32, 1.0)])
def test_crop_is_what_resize_and_centre_crop_of_torchvision_give(shape, side, share):
    picture = smooth(shape)
    [row] = ImagePreprocess(Image((side, side), 3, crop_fraction=share, interpolation="bicubic")).rows(picture)
    short, scaled = int(side / share), [0, 0]
    scaled[int(shape[0] > shape[1])] = short
    scaled[int(shape[0] <= shape[1])] = int(short * max(shape) / min(shape))
    resized = np.asarray(pillow.fromarray(picture).resize(scaled[::-1], pillow.Resampling.BICUBIC))
    top, left = (round((have - side) / 2) for have in scaled)
    assert np.array_equal(row, resized[top : top + side, left : left + side])


def test_a_share_that_divides_exactly_is_not_rounded_down():
    """224 / (224 / 235) is a little below 235 in floating point."""
    picture = smooth((235, 235))
    [row] = ImagePreprocess(Image((224, 224), 3, crop_fraction=224 / 235)).rows(picture)
    assert np.array_equal(row, picture[6:230, 6:230])


def test_squash_stretches_and_honours_the_crop():
    picture = smooth()
    [row] = ImagePreprocess(Image((20, 20), 3, fit="squash")).rows(picture)
    assert np.array_equal(row, np.asarray(pillow.fromarray(picture).resize((20, 20), pillow.Resampling.BILINEAR)))
    [row] = ImagePreprocess(Image((20, 20), 3, fit="squash", crop_fraction=0.5)).rows(picture)
    whole = np.asarray(pillow.fromarray(picture).resize((40, 40), pillow.Resampling.BILINEAR))
    assert np.array_equal(row, whole[10:30, 10:30])


def test_pad_keeps_the_whole_picture_on_its_border_colour():
    picture = np.full((10, 20, 3), (10, 20, 30), np.uint8)
    picture[4:6, 8:12] = 200
    [row] = ImagePreprocess(Image((20, 20), 3, fit="pad")).rows(picture)
    assert np.array_equal(row[5:15], picture)
    assert np.unique(row[:5].reshape(-1, 3), axis=0).tolist() == [[10, 20, 30]]
    assert np.unique(row[15:].reshape(-1, 3), axis=0).tolist() == [[10, 20, 30]]


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (7, 9)])
def test_pictures_of_any_shape_fit(fit, shape):
    [row] = ImagePreprocess(Image((16, 12), 1, fit=fit, crop_fraction=0.875)).rows(np.full(shape, 50, np.uint8))
    assert row.shape == (16, 12, 1)
    assert np.unique(row).tolist() == [50]


def test_ink_on_paper_is_made_bright_on_dark():
    paper = np.full((8, 8), 255, np.uint8)
    paper[3:5, 3:5] = 0
    preprocess = ImagePreprocess(Image((8, 8), 1, polarity="bright_on_dark"))
    assert np.array_equal(preprocess.rows(paper)[0][..., 0], 255 - paper)
    assert np.array_equal(preprocess.rows(255 - paper)[0][..., 0], 255 - paper)


def test_the_device_part_normalises_by_channel():
    preprocess = preprocess_for(Image((2, 2), 3, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 1.0)))
    found = np.asarray(preprocess.device(np.full((1, 2, 2, 3), 51, np.uint8)))
    assert found.dtype == np.float32
    assert np.allclose(found[0, 0, 0], [0.2, 0.0, -0.1], atol=1e-6)


def test_plain_numbers_of_another_shape_or_none_are_refused():
    preprocess = preprocess_for(Array(shape=(2,)))
    assert preprocess.rows([1, 2])[0].dtype == np.float32
    for wrong, words in (([1, 2, 3], r"shape \(3,\)"), (["a", "b"], "cannot be read as numbers"), (object(), "cannot")):
        with pytest.raises(DataError, match=words):
            preprocess.rows(wrong)


# Random changes

EVERYTHING = Augment(
    flip=True,
    degrees=20.0,
    shear=5.0,
    zoom=(0.8, 1.2),
    shift=0.1,
    min_resolution=6,
    thickness=0.5,
    brightness=0.2,
    contrast=0.2,
    noise=0.05,
)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_changes_are_drawn_from_the_generator_alone(channels):
    row = RNG.integers(0, 256, (12, 10, channels)).astype(np.uint8)
    before = row.copy()
    draws = [EVERYTHING.apply(row, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])
    assert draws[0].shape == row.shape
    assert draws[0].dtype == np.uint8
    assert np.array_equal(row, before)


@pytest.mark.parametrize("field", ["degrees", "shear", "shift", "brightness", "contrast", "noise", "thickness"])
def test_each_change_changes_something(field):
    row = smooth((16, 16))
    change = Augment(**{field: 20.0 if field in ("degrees", "shear") else 0.9})
    assert any(not np.array_equal(change.apply(row, np.random.default_rng(s)), row) for s in range(5))


def test_a_turn_is_about_the_centre():
    row = np.zeros((9, 9, 1), np.uint8)
    row[4, 4] = 200
    for seed in range(5):
        assert Augment(degrees=90.0).apply(row, np.random.default_rng(seed))[4, 4] >= 195


def test_a_random_crop_is_a_part_of_the_picture():
    picture = np.arange(60 * 40, dtype=np.uint16).reshape(60, 40, 1)
    for seed in range(20):
        part = Augment(crop_scale=(0.2, 0.8)).crop(picture, np.random.default_rng(seed))[..., 0]
        top, left = divmod(int(part[0, 0]), 40)
        assert np.array_equal(part, picture[top : top + part.shape[0], left : left + part.shape[1], 0])
        assert 0.15 < part.size / picture.size < 0.85


# Turned classes


def test_turned_pictures_are_classes_of_their_own_and_are_read_when_needed(tmp_path):
    files = []
    for number in range(2):
        files.append(tmp_path / f"{number}.png")
        pillow.fromarray(COLOUR + np.uint8(number)).save(files[-1])
    source = with_turned_classes(Source.of("image", files, ["a", "b"], groups=["g", "h"]))
    assert len(source) == 8
    assert [source.labels[t] for t in source.targets[[0, 3, 7]]] == ["a", "b@90", "b@270"]
    for i in range(8):
        turned = np.rot90(COLOUR + np.uint8(i % 2), i // 2)
        assert np.array_equal(decode(source.raw[i]), turned)
        assert source.groups[i] == "gh"[i % 2]
    files[1].unlink()
    part = source.subset([4, 5])  # nothing is read yet
    assert np.array_equal(decode(part.raw[0]), np.rot90(COLOUR, 2))
    with pytest.raises(DataError, match=r"1\.png"):
        decode(part.raw[1])


def test_turning_leaves_the_unlabelled_so_and_is_for_pictures():
    source = with_turned_classes(Source.of("image", np.zeros((2, 4, 4), np.uint8)))
    assert source.targets.tolist() == [-1] * 8
    with pytest.raises(DataError, match="holds text"):
        with_turned_classes(Source.of("text", ["x"], ["a"]))


# Missing and cut pictures


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "TGA"])
def test_a_picture_cut_short_is_named(form, tmp_path):
    noise = pillow.fromarray(RNG.integers(0, 256, (64, 64, 3)).astype(np.uint8))
    data = encoded(noise, form)
    file = tmp_path / f"x.{form.lower()}"
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=file.name):
        decode(file)
    file.write_bytes(data)
    assert decode(file).shape == (64, 64, 3)


@pytest.mark.parametrize("missing", ["struct", "bytes", "path"])
def test_a_missing_picture_of_a_table_is_named_or_left_out(missing, tmp_path):
    file = tmp_path / "t.parquet"
    data = encoded(pillow.fromarray(COLOUR))
    if missing == "bytes":
        column = pyarrow.array([None, data, None, data])
    else:
        null = None if missing == "struct" else {"bytes": None, "path": None}
        row = {"bytes": data, "path": "x.png"}
        kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
        column = pyarrow.array([null, row, null, row], kind)
    pyarrow.parquet.write_table(pyarrow.table({"image": column, "label": list("xyxy")}), file)
    with pytest.raises(DataError, match=r"t\.parquet:1 is missing \(null\)"):
        open_source(file)
    source = open_source(file, on_bad_file="skip")
    assert source.modality == "image"
    assert [path for path, _ in source.skipped] == ["t.parquet:1", "t.parquet:3"]
    assert [source.labels[t] for t in source.targets] == ["y", "y"]
    assert len(to_predict(file, on_bad_file="skip")) == 2
