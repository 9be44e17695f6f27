from regionclip.concepts.mentions import ClassMentions

CLASSES = ClassMentions(["cat", "Traffic_Light", "bus", "sheep", "hot dog", "dog", "skis"])


def test_names_are_found_as_whole_words_in_any_number_and_case() -> None:
    assert CLASSES.of(["Two CATS by a bus."]) == (0, 2)
    assert CLASSES.of(["concatenated buses"]) == (2,)
    assert CLASSES.of(["a traffic light, traffic lights"]) == (1,)
    assert CLASSES.of(["sheep on skis"]) == (3, 6)


def test_a_name_inside_a_longer_one_is_found_too() -> None:
    assert CLASSES.of(["a hot dog"]) == (4, 5)


def test_any_of_several_captions_counts() -> None:
    assert CLASSES.of(["a cat", "a dog"]) == (0, 5)
    assert CLASSES.of([]) == ()
    assert CLASSES.of(["", "nothing here"]) == ()


def test_without_classes_nothing_is_found() -> None:
    assert ClassMentions([]).of(["a cat"]) == ()
