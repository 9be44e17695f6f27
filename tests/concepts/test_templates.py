import pytest

from regionclip.concepts.templates import TEMPLATES, fill_template, prompt_templates


def test_the_ensemble_is_the_bare_name_and_openais_80() -> None:
    import open_clip

    openai = {template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES}
    bare, *rest = TEMPLATES["imagenet80"]
    assert bare == "{}."
    assert len(rest) == 80
    assert set(rest) == openai


def test_every_built_in_template_has_one_place_for_the_name() -> None:
    for templates in TEMPLATES.values():
        assert all(template.count("{}") + template.count("{name}") == 1 for template in templates)


def test_vilds_templates_are_63_sentences() -> None:
    filled = {fill_template(template, "cat") for template in TEMPLATES["vild63"]}
    assert len(filled) == 63
    assert not any(each.startswith(("a ", "an ", "the ")) for each in filled)
    assert "This is a photo of a cat." in filled


@pytest.mark.parametrize(
    ("name", "filled"),
    [
        ("cat", "There is a cat."),
        ("umbrella", "There is an umbrella."),
        ("Airbag", "There is an airbag."),
        ("Band_Aid", "There is a band aid."),
        ("cabinet/shelf", "There is a cabinet or shelf."),
        ("hot dog.", "There is a hot dog."),
    ],
)
def test_a_name_in_words_gets_its_article(name: str, filled: str) -> None:
    assert fill_template("There is {article} {name}.", name) == filled


def test_fill_template_removes_commas_and_opens_plus_signs() -> None:
    assert fill_template("a photo of a {}.", "red+blue, striped cap") == (
        "a photo of a red blue striped cap."
    )


def test_fill_template_keeps_commas_of_the_template() -> None:
    assert fill_template("a {}, up close, {}", "cat") == "a cat, up close, cat"


def test_prompt_templates_takes_a_list_of_ones_own() -> None:
    assert prompt_templates(["a {} seen from above"]) == ("a {} seen from above",)


def test_prompt_templates_names_the_known_sets() -> None:
    with pytest.raises(
        ValueError, match="unknown prompt templates 'vild'; expected one of a-name, image"
    ):
        prompt_templates("vild")


def test_prompt_templates_rejects_an_empty_list() -> None:
    with pytest.raises(ValueError, match="prompt templates are empty"):
        prompt_templates([])


def test_prompt_templates_rejects_a_sentence_without_a_place() -> None:
    with pytest.raises(ValueError, match="'a photo of a cat' has no place for the class name"):
        prompt_templates(["{}", "a photo of a cat"])


@pytest.mark.parametrize("template", ["a {} photo {}", "{name} and {}"])
def test_prompt_templates_rejects_a_sentence_with_two_places(template: str) -> None:
    with pytest.raises(ValueError, match=r"has 2 places for the class name; write one \{\}"):
        prompt_templates([template])
