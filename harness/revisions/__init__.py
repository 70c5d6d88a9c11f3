"""Two commits compared: installed, measured in turns, and stepped round by round."""
