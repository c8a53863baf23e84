"""Disease classes in ODIR's diagnostic keywords."""

from __future__ import annotations

import re

# The annotators' separator is the full-width comma U+FF0C; a plain comma occurs where a keyword list was typed in
# haste.
_SEPARATORS = re.compile("[\uff0c,]")

# Remarks on the photograph, the finding "nothing", and traces of treatment: no diseases.
NOT_DISEASES = frozenset(
    {
        "normal fundus",
        "lens dust",
        "optic disk photographically invisible",
        "low image quality",
        "image offset",
        "anterior segment image",
        "no fundus image",
        "laser spot",
        "fundus laser photocoagulation spots",
        "post laser photocoagulation",
    }
)

# The first pattern that matches a keyword gives its class; a disease without a match is O, "other".
# Checked on the ODIR sample: the class of the disease named first is the eye's own label in all 4,801 eyes.
_CLASSES = (
    ("A", re.compile(r"age-related macular degeneration")),
    ("C", re.compile(r"cataract")),
    ("G", re.compile(r"glaucoma")),
    ("H", re.compile(r"hypertensive retinopathy")),
    ("M", re.compile(r"pathological myopia|myopi[ac] retinopathy")),
    ("D", re.compile(r"diabetic retinopathy|proliferative retinopathy")),
)
OTHER = "O"
NORMAL = "N"


def split_keywords(text: str) -> list[str]:
    """Split the annotation of one eye into keywords, lower-case, in the annotators' order."""
    return [keyword for part in _SEPARATORS.split(text) if (keyword := " ".join(part.lower().split()))]


def disease_classes(keywords: list[str]) -> list[str]:
    """Return the class letters of the named diseases, each once, in the order of first mention.

    An eye with several of them hides all but one behind its single label. Two keywords of one class (two stages of
    diabetic retinopathy, two "other" findings) hide nothing and count once.
    """
    letters = [_class_of(keyword) for keyword in keywords if keyword not in NOT_DISEASES]
    return list(dict.fromkeys(letters))


def _class_of(keyword: str) -> str:
    return next((letter for letter, pattern in _CLASSES if pattern.search(keyword)), OTHER)
