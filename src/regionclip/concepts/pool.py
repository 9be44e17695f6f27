"""A concept pool: what regions are matched to in pretraining, kept in one file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from regionclip.checkpoints import CheckpointError, save_tensors
from regionclip.vocabulary import Vocabulary

FORMAT = "regionclip-concept-pool/1"
TEACHER_TENSOR = "teacher_embeddings"


@dataclass(frozen=True, slots=True, eq=False)
class ConceptPool:
    """Concepts with their counts, and their vectors by the text towers of student and teacher.

    The file is a vocabulary of the student's with more in it: whatever takes a vocabulary takes it.

    Attributes:
        student: Names, in the pool's order, and the student's vectors.
        counts: How often captions name each concept; 0 where nobody counted, as in a plain list.
            Where names were merged, a caption that has several of them counts for each.
        num_captions: Captions that were read; 0 for a plain list.
        teacher: The same names with the teacher's vectors; ``None`` if the teacher's text tower is
            the student's.
        made_with: Options that the pool was made with, by name; plain data.

    Raises:
        ValueError: The numbers of names and counts differ, a count is negative, or the teacher's
            names are not the student's.
    """

    student: Vocabulary
    counts: tuple[int, ...]
    num_captions: int = 0
    teacher: Vocabulary | None = None
    made_with: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.student):
            raise ValueError(f"{len(self.student)} concepts have {len(self.counts)} counts")
        if min(self.counts) < 0 or self.num_captions < 0:
            raise ValueError(f"a concept is counted {min(self.counts)} times; counts are from 0 on")
        if self.teacher is not None and self.teacher.names != self.student.names:
            raise ValueError(
                f"the teacher's {len(self.teacher)} concepts are not the student's "
                f"{len(self.student)}, or in another order; encode the same names with both"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The concepts, the most frequent first."""
        return self.student.names

    @property
    def teacher_vocabulary(self) -> Vocabulary:
        """What the teacher matches regions to: its own vectors, or those that it shares."""
        return self.student if self.teacher is None else self.teacher

    def __len__(self) -> int:
        return len(self.student)

    def check_encoders(self, student_id: str, teacher_id: str) -> None:
        """Refuse a student or a teacher whose vectors live in another space than the pool's.

        Raises:
            ValueError: An id is not the pool's.
        """
        roles = (
            ("student", self.student, student_id),
            ("teacher", self.teacher_vocabulary, teacher_id),
        )
        for role, vocabulary, encoder_id in roles:
            if vocabulary.encoder_id != encoder_id:
                raise ValueError(
                    f"the concept pool ({len(self)} names, the first {self.names[0]!r}) has a "
                    f"{role} with encoder {vocabulary.encoder_id}, and this {role} has "
                    f"{encoder_id}; make the pool with it ('regionclip concepts build ... "
                    f"--{role} MODEL'), from a file that says what it computes with if the recipe "
                    "sets an activation ('regionclip models convert FILE own.safetensors "
                    "--activation gelu', and own.safetensors for both)"
                )

    def save(self, path: str | Path) -> None:
        """Write one safetensors file with everything; an old one stays until the new is whole."""
        about: dict[str, Any] = {
            "format": FORMAT,
            "counts": self.counts,
            "num_captions": self.num_captions,
            "made_with": dict(self.made_with),
        }
        tensors = {"embeddings": self.student.embeddings}
        if self.teacher is not None:
            tensors[TEACHER_TENSOR] = self.teacher.embeddings
            about["teacher"] = self.teacher.entries()
        entries = {**self.student.entries(), "concept_pool": json.dumps(about, ensure_ascii=False)}
        save_tensors(path, tensors, entries)

    @classmethod
    def load(cls, path: str | Path) -> "ConceptPool":
        """Read what :meth:`save` wrote.

        Raises:
            CheckpointError: The file is missing, damaged, or no concept pool.
        """
        student = Vocabulary.load(path)
        try:
            with safe_open(path, framework="pt") as file:
                text = (file.metadata() or {}).get("concept_pool")
                keys = set(file.keys()) - {"embeddings"}
                rows = {key: file.get_tensor(key) for key in keys}
        except SafetensorError as error:
            raise CheckpointError(f"{path} is damaged ({error}); make the pool again") from error
        if text is None:
            raise CheckpointError(
                f"{path} is a vocabulary without counts, no concept pool; 'regionclip concepts "
                "build' makes one, also of a plain list of names"
            )
        try:
            about = json.loads(text)
            if about["format"] != FORMAT:
                raise CheckpointError(
                    f"{path} is a concept pool of format {about['format']!r}, and this version "
                    f"reads {FORMAT!r}; upgrade regionclip"
                )
            teacher = about.get("teacher")
            if keys != ({TEACHER_TENSOR} if teacher else set()):
                raise ValueError(f"its tensors are {sorted(keys)}")
            return cls(
                student,
                tuple(int(each) for each in about["counts"]),
                int(about["num_captions"]),
                Vocabulary.from_entries(teacher, rows[TEACHER_TENSOR]) if teacher else None,
                dict(about["made_with"]),
            )
        except CheckpointError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"{path} is damaged ({error}); make the pool again") from error
