from regionclip.pairs import caption_id, image_id


def test_the_same_words_have_the_same_number_whatever_their_case_and_blanks() -> None:
    assert caption_id("A  dog\n") == caption_id("a dog")
    assert caption_id("a dog") != caption_id("a cat")
    # what "b2sum -l 64" says of these words, on any machine
    assert caption_id("a dog") == -143298910849180985


def test_images_are_told_apart_by_their_names() -> None:
    assert image_id("a/1.jpg") == image_id("a/1.jpg")
    assert len({image_id(name) for name in ("a/1.jpg", "A/1.jpg", "a/2.jpg")}) == 3
