"""The colours that every picture shares: Okabe and Ito's, which most colour-blind people tell apart."""

COLOURS = ("#999999", "#56B4E9", "#E69F00", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000")
