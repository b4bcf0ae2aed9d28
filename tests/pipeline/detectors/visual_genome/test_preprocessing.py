"""The input of the network."""

from pipeline.detectors.visual_genome.preprocessing import resized_size


def test_pictures_are_resized_as_in_the_port(units):
    for height, width, min_size, max_size, *expected in units["resize_table"].tolist():
        assert [*resized_size(height, width, min_size, max_size)] == expected
