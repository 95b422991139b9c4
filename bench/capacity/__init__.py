"""How many machines a number of streams needs: figures, plan, simulation, two cells measured."""
