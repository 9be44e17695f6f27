import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from regionclip.checkpoints import CheckpointError
from regionclip.concepts.pool import ConceptPool
from regionclip.vocabulary import Vocabulary

NAMES = ("dog", "caf\u00e9")


def vocabulary(encoder_id: str, seed: int = 0, names: tuple[str, ...] = NAMES) -> Vocabulary:
    rows = torch.randn(len(names), 3 + seed, generator=torch.Generator().manual_seed(seed))
    return Vocabulary(names, rows, ("a {}.", "{}"), encoder_id)


def pool() -> ConceptPool:
    return ConceptPool(
        vocabulary("a:1"), (7, 2), 9, vocabulary("b:2", seed=1), {"min_count": 2, "exclude": ["x"]}
    )


def rewritten(path: Path, **changes: str) -> Path:
    """The pool's file with other metadata."""
    with safe_open(path, framework="pt") as file:
        entries = {**file.metadata(), **changes}
        tensors = {key: file.get_tensor(key) for key in sorted(file.keys())}
    save_file(tensors, path, metadata=entries)
    return path


def test_a_saved_pool_comes_back_whole(tmp_path: Path) -> None:
    pool().save(tmp_path / "pool.safetensors")
    found = ConceptPool.load(tmp_path / "pool.safetensors")
    assert found.names == NAMES
    assert found.counts == (7, 2)
    assert found.num_captions == 9
    assert found.made_with == {"min_count": 2, "exclude": ["x"]}
    assert found.teacher is not None
    for own, expected in ((found.student, pool().student), (found.teacher, pool().teacher)):
        assert expected is not None
        assert own.names == expected.names
        assert own.templates == expected.templates
        assert own.encoder_id == expected.encoder_id
        assert torch.equal(own.embeddings, expected.embeddings)


def test_a_pool_is_a_vocabulary_of_the_student(tmp_path: Path) -> None:
    pool().save(tmp_path / "pool.safetensors")
    found = Vocabulary.load(tmp_path / "pool.safetensors")
    assert (found.names, found.encoder_id) == (NAMES, "a:1")
    assert torch.equal(found.embeddings, pool().student.embeddings)


def test_without_a_teacher_the_students_vectors_serve_both(tmp_path: Path) -> None:
    ConceptPool(vocabulary("a:1"), (0, 0)).save(tmp_path / "pool.safetensors")
    found = ConceptPool.load(tmp_path / "pool.safetensors")
    assert found.teacher is None
    assert found.teacher_vocabulary is found.student
    found.check_encoders("a:1", "a:1")


def test_a_pool_of_the_originals_rows_and_names(tmp_path: Path) -> None:
    rows = torch.randn(2, 1024, generator=torch.Generator().manual_seed(0))
    torch.save(rows, tmp_path / "coco_nouns_2_emb.pth")
    student = Vocabulary.from_embedding_file(
        tmp_path / "coco_nouns_2_emb.pth", NAMES, encoder_id="RN50:0123456789ab"
    )
    ConceptPool(student, (0, 0)).save(tmp_path / "pool.safetensors")
    assert torch.equal(ConceptPool.load(tmp_path / "pool.safetensors").student.embeddings, rows)


def test_other_encoders_are_refused() -> None:
    pool().check_encoders("a:1", "b:2")
    with pytest.raises(ValueError, match=r"has a student with encoder a:1, and this student has b"):
        pool().check_encoders("b:2", "b:2")
    with pytest.raises(
        ValueError, match=r"teacher with encoder b:2, .* a:1; make the pool .*--tea"
    ):
        pool().check_encoders("a:1", "a:1")


@pytest.mark.parametrize(
    ("counts", "teacher", "reason"),
    [
        ((1,), None, "2 concepts have 1 counts"),
        ((1, -1), None, "a concept is counted -1 times"),
        ((1, 2), vocabulary("b:2", names=("caf\u00e9", "dog")), "or in another order"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    counts: tuple[int, ...], teacher: Vocabulary | None, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        ConceptPool(vocabulary("a:1"), counts, teacher=teacher)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "pool.safetensors"
    with pytest.raises(CheckpointError, match="does not exist"):
        ConceptPool.load(path)
    vocabulary("a:1").save(path)
    with pytest.raises(CheckpointError, match="is a vocabulary without counts, no concept pool"):
        ConceptPool.load(path)


@pytest.mark.parametrize(
    ("about", "reason"),
    [
        ({"format": "regionclip-concept-pool/2"}, "of format 'regionclip-concept-pool/2'.*upgrade"),
        ({"format": "regionclip-concept-pool/1"}, "damaged"),
        ([], "damaged"),
        (
            {
                "format": "regionclip-concept-pool/1",
                "counts": [1, 2],
                "num_captions": 3,
                "made_with": {},
            },
            r"damaged \(its tensors are \['teacher_embeddings'\]\)",
        ),
    ],
)
def test_damaged_pools_are_refused(tmp_path: Path, about: object, reason: str) -> None:
    path = tmp_path / "pool.safetensors"
    pool().save(path)
    with pytest.raises(CheckpointError, match=reason):
        ConceptPool.load(rewritten(path, concept_pool=json.dumps(about)))


def test_entries_that_are_no_json_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "pool.safetensors"
    pool().save(path)
    with pytest.raises(CheckpointError, match="damaged"):
        ConceptPool.load(rewritten(path, concept_pool="{"))
