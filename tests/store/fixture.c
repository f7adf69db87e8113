#include "fixture.h"

int fixture_placeholder;
