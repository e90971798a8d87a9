"""People drawn from parameters, in place of real faces in the demo and the tests."""
